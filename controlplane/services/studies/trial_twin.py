"""The twin of the engine that a trial measures, fitted to its levels as they end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from controlplane.domain.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Level
from controlplane.domain.workload import Workload
from controlplane.services.studies.trial_plan import requests_of
from tuner.ladder.fitted_twin import FittedTwin, SeenLevel
from tuner.space.first_tier import shape_of
from tuner.twin.setup import resolve
from tuner.twin.simulate import RequestArrays


@dataclass(frozen=True)
class TrialTwin:
    """Says after each level what capacity the engine is expected to have."""

    fitted: FittedTwin
    warmup_s: float

    def see(self, level: Level) -> float | None:
        """Learn from a level; return the capacity expected now, requests/s; None when the twin has no opinion."""
        try:
            self.fitted.see(_seen(level, self.warmup_s))
            return self.fitted.capacity_rps()
        except InvalidInput:  # a request that this engine refuses: the twin cannot serve it either
            return None


def trial_twin(
    spec: ServiceSpec, config: EngineConfig, workload: Workload, *, seed: int, start_rps: float
) -> TrialTwin | None:
    """Return the twin of `config` under a trial's own arrivals; None when no profile fits the engine."""
    shape = shape_of(spec)
    if shape is None:
        return None
    try:
        setup = resolve(shape, spec.gpus.type, config)
    except InvalidInput:
        return None
    warmup_s = spec.tuning.levels.warmup_s
    whole_s = warmup_s + spec.tuning.levels.max_s

    @lru_cache(maxsize=1)  # a fit asks for one rate many times
    def requests_at(rate_rps: float) -> RequestArrays:
        return requests_of(workload, rate_rps=rate_rps, duration_s=whole_s, seed=seed)

    fitted = FittedTwin(setup, requests_at, spec.slos.latency, start_rps=start_rps, warmup_s=warmup_s)
    return TrialTwin(fitted, warmup_s)


def _seen(level: Level, warmup_s: float) -> SeenLevel:
    report = level.report
    measured_ms = {check.slo: check.measured.value for check in report.slo_checks if check.measured is not None}
    until_s = None if report.stopped_early is None else warmup_s + report.duration_s
    return SeenLevel(level.rate_rps, report.completed, measured_ms, until_s)
