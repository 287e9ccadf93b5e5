"""What a trial's arrivals are worth: how far they let a replica go beside the long run, by the twin.

A level of some hundred requests is light or heavy by chance, and the same for every configuration of a search. The twin
knows which: it simulates the very requests of the trial's levels, and many more, and the ratio of its two capacities is
taken out of what was measured (`tuner.answer.posterior`). A twin that is wrong in speed is wrong in both.

One half hour differs from another by more than any level knows, most where hardly any rate meets the limits or a trace
brings its own arrivals: the long run is the mean over several, and how far they lie apart is what any half hour to come
may differ by.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.calibration import Calibration
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.domain.workload import TracePart, TraceWorkload, Workload, has_own_arrivals
from controlplane.services.studies.calibrate_here import Stand, stand_of
from controlplane.services.studies.trial_plan import requests_of, seed_of, workload_of
from controlplane.services.studies.trial_twin import trial_twin
from loadtests.send.traces import written_ns
from tuner.answer.evidence import LONG_RUN, LONG_RUN_SD, THESE_ARRIVALS
from tuner.search.prior import twin_capacity
from tuner.twin.predict import RequestsAt
from tuner.twin.simulate import RequestArrays

_LONG_REQUESTS = 6000.0
_SHORTEST_S, _HALF_HOUR_S = 450.0, 1800.0  # of the long run
_LONG_SEED = 15_485_863  # added to the study's: arrivals that no trial has
_HALF_HOURS = 4
_PRECISION, _STEP, _NEAR_STEP = 0.03, 1.5, 1.1
_QUESTIONS = 16  # services and versions of theirs that a worker meets in turn


class LongRun(NamedTuple):
    """What a replica sustains in the long run, requests/s, and the sd of its logarithm in a half hour to come."""

    rps: float
    sd: float


class _Limits(NamedTuple):
    """What the twin goes by and what must hold."""

    stand: Stand
    slos: tuple[LatencySlo, ...]

    def sustains(
        self, config: EngineConfig, requests_at: RequestsAt, start_rps: float, step: float = _STEP
    ) -> float | None:
        """Return the highest rate within the limits, requests/s; None where the twin has no opinion or sees none."""
        simulated = twin_capacity(
            self.stand.setup, requests_at, self.slos, start_rps=start_rps, precision=_PRECISION, step=step
        )
        return simulated(config) or None

    def sustains_each(self, config: EngineConfig, spans: Sequence[RequestsAt], start_rps: float) -> list[float] | None:
        """Return what each of several spans lets it sustain, requests/s; None where the twin sees none for one.

        Each is looked for from the one before it.
        """
        found: list[float] = []
        for requests_at in spans:
            near = (found[-1], _NEAR_STEP) if found else (start_rps, _STEP)
            rps = self.sustains(config, requests_at, *near)
            if rps is None:
                return None
            found.append(rps)
        return found


def with_arrivals(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...], calibration: Calibration | None) -> Trial:
    """Return an ended trial with what the twin says of its arrivals, as it is where that says nothing.

    A fleet's check has a rate that is given and no ladder; nothing is said of it.
    """
    stand, expected_rps = stand_of(spec, calibration), trial.predicted.get("capacity_rps")
    if stand is None or not expected_rps or not trial.levels or trial.kind is TrialKind.CONFIRM_FLEET:
        return trial
    limits = _Limits(stand, spec.slos.latency)
    these = _under_these(spec, trial, trials, calibration, start_rps=expected_rps)
    long_run = _long_runs(limits, *_whole(spec.workload), spec.tuning.seed + _LONG_SEED)(trial.config, expected_rps)
    if these is None or long_run is None:
        return trial
    told = {THESE_ARRIVALS: these, LONG_RUN: long_run.rps, LONG_RUN_SD: long_run.sd}
    return trial.evolve(predicted={**trial.predicted, **told})


def _under_these(
    spec: ServiceSpec,
    trial: Trial,
    trials: tuple[Trial, ...],
    calibration: Calibration | None,
    *,
    start_rps: float,
) -> float | None:
    """Return what the twin sustains under the very requests that the trial's levels had, requests/s.

    Their warm-up is sent and not counted, as in a level: a burst in it would else be taken for the level's.
    """
    workload, seed = workload_of(spec, trial), seed_of(spec, trial, trials)
    twin = trial_twin(
        spec, trial.config, workload, seed=seed, start_rps=start_rps, kind=trial.kind, calibration=calibration
    )
    return None if twin is None else twin.expected_rps()


@lru_cache(maxsize=_QUESTIONS)
def _long_runs(
    limits: _Limits, workload: Workload, _written_ns: int, seed: int
) -> Callable[[EngineConfig, float], LongRun | None]:
    """Return what finds capacities under thousands of other requests, each once.

    Where a trace brings its own arrivals these are several half hours of it, with its bursts.
    """
    known: dict[str, LongRun | None] = {}
    spans = [_span(workload, seed + part) for part in range(_HALF_HOURS)]

    def long_run(config: EngineConfig, start_rps: float) -> LongRun | None:
        key = config.content_hash()
        if key not in known:
            found = limits.sustains_each(config, spans, start_rps)
            known[key] = None if found is None else _mean(found)
        return known[key]

    return long_run


def _span(workload: Workload, seed: int) -> RequestsAt:
    """Return half an hour of arrivals at any rate: less where so many requests say the same, unless a trace bursts.

    Minutes do not do, however many requests they bring: a queue that grows slowly has not yet cost anybody a limit.
    """

    def requests_at(rate_rps: float) -> RequestArrays:
        span_s = _HALF_HOUR_S
        if not has_own_arrivals(workload):
            span_s = min(_HALF_HOUR_S, max(_SHORTEST_S, _LONG_REQUESTS / rate_rps))
        return requests_of(workload, rate_rps=rate_rps, duration_s=span_s, seed=seed)

    return requests_at


def _mean(capacities: Sequence[float]) -> LongRun:
    """Return the geometric mean, and how far a further one is expected from it (their mean being off as well)."""
    logs = [math.log(each) for each in capacities]
    apart = statistics.stdev(logs) if len(logs) > 1 else 0.0
    return LongRun(math.exp(statistics.fmean(logs)), apart * math.sqrt(1 + 1 / len(logs)))


def _whole(workload: Workload) -> tuple[Workload, int]:
    """Return the workload with all rows of its trace, and when that file was written (anew it is another)."""
    if not isinstance(workload, TraceWorkload):
        return workload, 0
    return workload.evolve(part=TracePart.ALL), written_ns(workload.trace)
