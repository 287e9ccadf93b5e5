"""Warming up fresh engines before their first level: the same probes again and again, until they take equally long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial
from controlplane.domain.studies.warm_up import Probe, WarmUp
from controlplane.ports.load import EngineProber
from controlplane.services.studies.trial_engine import TrialProgress
from controlplane.services.studies.trial_plan import requests_of, workload_of
from tuner.ladder.warm_up import MOST_SWEEPS, is_steady, sweep

LIMIT_SHARE = 0.25
"""Of `start_timeout_s`: a warm-up that lasts longer ends, and the levels begin as they would have without it."""
_ROWS, _SPAN_S = 1000, 60.0  # requests of the workload whose longest prompt counts


@dataclass
class _Told:
    """What a warm-up took so far, wall-clock seconds: each complete sweep, and every probe."""

    limit_s: float
    sweeps_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def left_s(self) -> float:
        return self.limit_s - self.took_s


@dataclass(frozen=True)
class WarmUpRunner:
    """Warms up engines side by side. `check` and `on_progress` are called often and may raise Interrupted."""

    prober: EngineProber
    check: Callable[[], None]
    on_progress: Callable[[TrialProgress], None]

    def __call__(self, trial: Trial, spec: ServiceSpec, engines: Sequence[Engine]) -> WarmUp:
        """Return how it went; no trouble of a probe is the trial's. Raises Interrupted."""
        told = _Told(limit_s=LIMIT_SHARE * spec.engine.start_timeout_s)
        lapse, probes, why = spec.engine.time_lapse, sweep_for(trial, spec), None
        try:
            while not (steady := is_steady([each * lapse for each in told.sweeps_s])):
                if len(told.sweeps_s) == MOST_SWEEPS:
                    break
                self._sweep(told, trial, engines, probes)
        except Unavailable as error:
            steady, why = False, str(error)
        return WarmUp(sweeps=len(told.sweeps_s), took_s=told.took_s, steady=steady, why=why)

    def _sweep(self, told: _Told, trial: Trial, engines: Sequence[Engine], probes: Sequence[Probe]) -> None:
        """Send every probe once to every engine. Raises Unavailable when one does not answer in time, or to none."""
        number, before_s = len(told.sweeps_s), told.took_s
        for place, probe in enumerate(probes):
            self.check()
            self.on_progress(TrialProgress(trial, f"warming up, sweep {number + 1}"))
            if told.left_s <= 0:
                raise Unavailable("the warm-up ended", why=f"{told.limit_s:g} s are over")
            told.took_s += self._slowest_s(engines, probe, seed=number * len(probes) + place, timeout_s=told.left_s)
        if told.took_s == before_s:
            raise Unavailable("the engine refuses every probe", why="nothing is known of its steady state")
        told.sweeps_s.append(told.took_s - before_s)

    def _slowest_s(self, engines: Sequence[Engine], probe: Probe, *, seed: int, timeout_s: float) -> float:
        def ask(engine: Engine) -> float:
            try:
                return self.prober.ask(engine, probe, seed=seed, timeout_s=timeout_s)
            except InvalidInput:  # a size this engine refuses: its levels will not reach it either
                return 0.0

        with ThreadPoolExecutor(len(engines)) as pool:
            return max(pool.map(ask, engines))


def sweep_for(trial: Trial, spec: ServiceSpec) -> tuple[Probe, ...]:
    """Return the sweep of a trial's engines: what their levels will reach, by their flags and its workload."""
    requests = requests_of(
        workload_of(spec, trial), rate_rps=_ROWS / _SPAN_S, duration_s=_SPAN_S, seed=spec.tuning.seed
    )
    return sweep(spec.engine.kind, trial.config, longest=int(requests.prompt_tokens.max(initial=1)))
