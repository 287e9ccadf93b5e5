"""What the twin expects of a service's configurations, before any of them is started."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.calibration import Calibration
from controlplane.domain.workload import TraceWorkload, Workload
from controlplane.services.studies.calibrate_here import Stand, stand_of
from controlplane.services.studies.trial_plan import requests_of
from loadtests.send.traces import written_ns
from tuner.search.prior import CapacityOf, twin_capacity
from tuner.twin.predict import RequestsAt
from tuner.twin.simulate import RequestArrays

_FORECAST_S = 60.0
_FEWEST_REQUESTS = 200
_QUESTIONS = 16  # services and versions of theirs that a worker meets in turn


class _Question(NamedTuple):
    """All that a forecast depends on beside the configuration."""

    stand: Stand
    workload: Workload
    slos: tuple[LatencySlo, ...]
    seed: int
    guess_rps: float
    trace_written_ns: int  # a trace file that was written anew is another one


def forecaster(spec: ServiceSpec, calibration: Calibration | None = None) -> CapacityOf | None:
    """Return the twin's capacity of a configuration under the service's workload and limits.

    None when the twin knows not the model or not the GPU, and no calibration made here stands in. What was simulated
    for an earlier study of this process that asked the same is remembered: a worker that tunes a service every night
    simulates its prior once.
    """
    stand = stand_of(spec, calibration)
    if stand is None:
        return None
    trace = spec.workload.trace if isinstance(spec.workload, TraceWorkload) else None
    return _remembering(
        _Question(
            stand=stand,
            workload=spec.workload,
            slos=spec.slos.latency,
            seed=spec.tuning.seed,
            guess_rps=max(0.5, spec.slos.target_qps / spec.gpus.count),
            trace_written_ns=0 if trace is None else written_ns(trace),
        )
    )


def forecaster_across(spec: ServiceSpec, calibration: Calibration | None = None) -> CapacityOf | None:
    """Return the twin's capacity of a configuration of any alternative: None for those of an engine without a twin.

    None when it has an opinion of none of them. A calibration is the service's own engine's, and counts for that alone.
    """
    own = spec.engine.kind.value
    found = {name: forecaster(way, calibration if name == own else None) for name, way in spec.ways.items()}
    if not any(found.values()):
        return None

    def capacity_of(config: EngineConfig) -> float | None:
        of_way = found.get(config.alternative or own)
        return None if of_way is None else of_way(config)

    return capacity_of


def workload_at(spec: ServiceSpec, *, seed: int, duration_s: float = _FORECAST_S) -> RequestsAt:
    """Return the workload at any rate, as one level would offer it: long enough for a queue to show."""
    return _at(spec.workload, seed=seed, duration_s=duration_s)


def _at(workload: Workload, *, seed: int, duration_s: float) -> RequestsAt:
    def requests_at(rate_rps: float) -> RequestArrays:
        span_s = max(duration_s, _FEWEST_REQUESTS / rate_rps)
        return requests_of(workload, rate_rps=rate_rps, duration_s=span_s, seed=seed)

    return requests_at


@lru_cache(maxsize=_QUESTIONS)
def _remembering(question: _Question) -> CapacityOf:
    """Return a forecaster that simulates each configuration once."""
    requests_at = _at(question.workload, seed=question.seed, duration_s=_FORECAST_S)
    simulated = twin_capacity(question.stand.setup, requests_at, question.slos, start_rps=question.guess_rps)
    known: dict[str, float | None] = {}

    def capacity_of(config: EngineConfig) -> float | None:
        key = config.content_hash()
        if key not in known:
            known[key] = simulated(config)
        return known[key]

    return capacity_of
