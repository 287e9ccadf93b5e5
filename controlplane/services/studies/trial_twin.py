"""The twin of the engine that a trial measures, fitted to its levels as they end."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.calibration import Calibration
from controlplane.domain.studies.pace import pace_of
from controlplane.domain.studies.study import Level, TrialKind
from controlplane.domain.workload import Workload
from controlplane.services.studies.calibrate_here import stand_of
from controlplane.services.studies.trial_plan import requests_of
from tuner.ladder.fitted_twin import FittedTwin, SeenLevel
from tuner.twin.remembered import simulate_once
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays

_EASY_SHARE = 0.5  # of the rate a ladder starts at: no queue makes requests stay there
_EASY_S = 60.0
_STAY = 90  # percentile of E2E latency


@dataclass(frozen=True)
class TrialTwin:
    """Says after each level what capacity the engine is expected to have.

    `residence_s` is how long most requests are expected to stay in it, None when it would refuse some.
    """

    fitted: FittedTwin
    warmup_s: float
    residence_s: float | None = None
    spans_s: dict[float, float] = field(default_factory=dict)  # of the levels seen, by rate

    def see(self, level: Level) -> float | None:
        """Learn from a level; return the capacity expected now, requests/s; None when the twin has no opinion."""
        warmup_s = self.warmup_s if level.warmup_s is None else level.warmup_s
        if level.report.stopped_early is None:
            self.spans_s[level.rate_rps] = warmup_s + level.report.duration_s
        try:
            self.fitted.see(_seen(level, warmup_s))
        except InvalidInput:  # a request that this engine refuses: the twin cannot serve it either
            return None
        return self.expected_rps()

    def expected_rps(self) -> float | None:
        """Return the capacity expected by what was seen so far, requests/s; None when the twin has no opinion."""
        try:
            return self.fitted.capacity_rps()
        except InvalidInput:
            return None


def trial_twin(
    spec: ServiceSpec,
    config: EngineConfig,
    workload: Workload,
    *,
    seed: int,
    start_rps: float,
    kind: TrialKind = TrialKind.SEARCH,
    calibration: Calibration | None = None,
) -> TrialTwin | None:
    """Return the twin of `config` under a trial's own arrivals; None when no profile fits the engine."""
    stand = stand_of(spec, calibration)
    if stand is None:
        return None
    try:
        setup = stand.setup(config)
    except InvalidInput:
        return None
    stays_s = _residence_s(setup, workload, start_rps * _EASY_SHARE, seed)
    spans_s: dict[float, float] = {}

    @lru_cache(maxsize=1)  # a fit asks for one rate many times
    def requests_for(rate_rps: float, whole_s: float) -> RequestArrays:
        return requests_of(workload, rate_rps=rate_rps, duration_s=whole_s, seed=seed)

    def requests_at(rate_rps: float) -> RequestArrays:
        planned = pace_of(spec, kind, rate_rps, residence_s=stays_s).whole_s
        return requests_for(rate_rps, spans_s.get(rate_rps, planned))

    warmup_s = pace_of(spec, kind, start_rps, residence_s=stays_s).warmup_s
    fitted = FittedTwin(setup, requests_at, spec.slos.latency, start_rps=start_rps, warmup_s=warmup_s)
    return TrialTwin(fitted, warmup_s, stays_s, spans_s)


def _residence_s(setup: EngineSetup, workload: Workload, rate_rps: float, seed: int) -> float | None:
    try:
        easy = simulate_once(setup, requests_of(workload, rate_rps=rate_rps, duration_s=_EASY_S, seed=seed))
    except InvalidInput:
        return None
    return float(np.percentile(easy.e2e_s, _STAY)) if len(easy.e2e_s) else None


def _seen(level: Level, warmup_s: float) -> SeenLevel:
    report = level.report
    measured_ms = {check.slo: check.measured.value for check in report.slo_checks if check.measured is not None}
    until_s = None if report.stopped_early is None else warmup_s + report.duration_s
    return SeenLevel(level.rate_rps, report.completed, measured_ms, until_s, warmup_s)
