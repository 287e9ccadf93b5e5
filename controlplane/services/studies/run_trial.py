"""One trial: start an engine, climb the rate ladder in its one life, stop it, and say what came out.

Three results, never mixed up: *feasible* (a capacity was measured), *infeasible* (the engine cannot start with these
flags, or holds no useful rate: the sampler learns it) and *failed* (the experiment broke: retried, never learnt from).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Unavailable
from controlplane.domain.report import Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialState
from controlplane.domain.workload import Workload
from controlplane.services.studies.trial_engine import TrialEngines, TrialProgress
from controlplane.services.studies.trial_level import LevelLoad, LevelRunner, broken
from controlplane.services.studies.trial_twin import TrialTwin
from controlplane.telemetry.tracing import span
from tuner.answer.fleets import carries_the_target
from tuner.ladder.ladder import Ladder
from tuner.ladder.level import rung_of


class Climb(NamedTuple):
    """What a trial's engine is loaded with, where its ladder starts, and its twin where there is one."""

    ladder: Ladder
    workload: Workload
    seed: int
    twin: TrialTwin | None = None


@dataclass(frozen=True)
class TrialRunner:
    """Measures the capacity of one engine. `examine` compares its answers while it still lives."""

    engines: TrialEngines
    levels: LevelRunner
    reset_prefix_cache: Callable[[str], None] | None = None
    examine: Callable[[Trial, str], Trial] | None = None

    def run(self, trial: Trial, spec: ServiceSpec, climb: Climb) -> Trial:
        """Return the finished trial. The engine and what loads it are gone when this returns or raises.

        Raises Interrupted.
        """

        def measure(ready: Trial, engines: Sequence[Engine]) -> Trial:
            return self._climb(ready, engines[0], spec, climb)

        with span("trial", study_id=trial.study_id, trial_id=trial.trial_id, kind=trial.kind.value):
            try:
                return self.engines.run(trial, spec, measure)
            finally:
                self.levels.rest()

    def _climb(self, trial: Trial, engine: Engine, spec: ServiceSpec, climb: Climb) -> Trial:
        ladder, url = climb.ladder, url_of(engine)
        stays_s = None if climb.twin is None else climb.twin.residence_s
        while (rate := ladder.next_rate()) is not None:
            load = LevelLoad(climb.workload, climb.seed, rate, ladder.may_pass_early(rate), stays_s)
            level, outcome = self.levels.run(trial, spec, url, load)
            trial = trial.evolve(levels=(*trial.levels, level))
            self.engines.save(trial)
            if (died := self.engines.died(trial, [engine])) is not None:
                return died
            if (why := broken(trial)) is not None:
                return self._examined(self._broke(trial, ladder, spec, why), url)
            if level.report.validity is Validity.VALID:
                fitted = None if climb.twin is None else climb.twin.see(level)
                ladder = ladder.climbed(rung_of(rate, outcome), fitted_rps=fitted)
            self._settle(engine, url)
        return self._examined(self._judged(trial, ladder), url)

    def _examined(self, trial: Trial, url: str) -> Trial:
        """Return the trial with what its answers are worth; one that failed is not asked."""
        if self.examine is None or trial.state is TrialState.FAILED:
            return trial
        self.engines.on_progress(TrialProgress(trial, "comparing answers"))
        return self.examine(trial, url)

    def _settle(self, engine: Engine, url: str) -> None:
        """Let requests finish and empty the prefix cache, so that levels do not help each other."""
        self.engines.settle(engine)
        if self.reset_prefix_cache is not None:
            self.reset_prefix_cache(url)

    def _broke(self, trial: Trial, ladder: Ladder, spec: ServiceSpec, why: str) -> Trial:
        """Return a trial that too many levels broke: failed, unless what one replica holds is enough.

        A small engine outruns its generator. When one replica carries the whole target, more would make no fleet
        cheaper, and starting it again would only break at the same rates.
        """
        capacity = ladder.capacity()
        if capacity is None or not capacity.censored or not carries_the_target(spec, capacity.rps):
            return self.engines.ended(trial, TrialState.FAILED, why)
        at_least = f"holds {capacity.rps:.3g} requests/s at least, which one replica needs for the target; above, {why}"
        return self.engines.ended(trial.evolve(capacity=capacity), TrialState.FEASIBLE, at_least)

    def _judged(self, trial: Trial, ladder: Ladder) -> Trial:
        capacity = ladder.capacity()
        if capacity is not None and not ladder.is_dropped:
            return self.engines.ended(trial.evolve(capacity=capacity), TrialState.FEASIBLE, None)
        worst = trial.levels[-1]
        where = f"{worst.rate_rps:.3g} requests/s"
        beat = "" if ladder.beat_rps is None else f", needs {ladder.beat_rps:.3g} to be worth anything"
        return self.engines.ended(trial, TrialState.INFEASIBLE, f"at {where} {worst.reason}{beat}")


def url_of(engine: Engine) -> str:
    """Return where a ready engine serves. Raises Unavailable when it does not say."""
    if engine.url is None:
        raise Unavailable(f"engine {engine.spec.engine_id} has no address", why="it is ready but did not say where")
    return engine.url
