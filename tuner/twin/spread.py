"""How far a prediction may be off: what the engine's speed is uncertain by, carried through its queue.

A relative error of the twin's clock moves a latency by as much while nothing waits, and by far more near saturation, in
both directions. So the workload is simulated on an engine that is slower, and on one that is faster, by as much as the
profile's 90 % interval allows: an engine `slower` times as slow under arrivals at r requests/s is the twin under
arrivals at `slower` x r with all its times stretched by `slower`. What a metric misses beside that (intake of bursts,
one-off stalls: mostly the first token) is added, by leave-one-out over the published recordings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from controlplane.domain.slo import LatencyMetric
from tuner.twin.compiled_state import Floats
from tuner.twin.remembered import simulate_once
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import GivesUp, RequestArrays, ResultArrays, simulate

_Z90 = 1.645
_BESIDE: Mapping[LatencyMetric, float] = MappingProxyType(
    {LatencyMetric.TTFT: 0.07, LatencyMetric.TPOT: 0.0, LatencyMetric.E2E: 0.0}
)
"""Metric -> relative error (1 sigma of its logarithm) that is not the engine's speed."""

Run = Callable[[float], ResultArrays]
"""Returns what an engine `slower` times as slow does."""


class Outcomes(NamedTuple):
    """The same workload on the engine as predicted, on a faster and on a slower one."""

    expected: ResultArrays
    faster: ResultArrays
    slower: ResultArrays


def outcomes(setup: EngineSetup, run: Run) -> Outcomes:
    """Return what comes of the profile's 90 % interval of speed."""
    factor = math.exp(_Z90 * setup.uncertainty)
    return Outcomes(run(1.0), run(1 / factor), run(factor))


def slowed(setup: EngineSetup, requests: RequestArrays, *, gives_up: GivesUp | None = None) -> Run:
    """Return what runs `requests` on an engine of another speed, to the end or until `gives_up` says so of it."""

    def run(slower: float) -> ResultArrays:
        moved = requests._replace(scheduled_s=requests.scheduled_s / slower)
        if gives_up is None:
            return _times(slower, simulate_once(setup, moved))
        return _times(slower, simulate(setup, moved, gives_up=lambda result: gives_up(_times(slower, result))))

    return run


def _times(slower: float, result: ResultArrays) -> ResultArrays:
    return result._replace(
        ttft_s=result.ttft_s * slower,
        e2e_s=result.e2e_s * slower,
        tpot_s=result.tpot_s * slower,
        max_gap_s=result.max_gap_s * slower,
    )


def series(result: ResultArrays, metric: LatencyMetric) -> Floats:
    """Return every request's latency, seconds; NaN where it has none."""
    match metric:
        case LatencyMetric.TTFT:
            return result.ttft_s
        case LatencyMetric.TPOT:
            return result.tpot_s
        case LatencyMetric.E2E:
            return result.e2e_s


def percentile_s(
    found: Outcomes, metric: LatencyMetric, rank: float, among: Floats | None = None
) -> tuple[float, float, float] | None:
    """Return (expected, low, high) of a percentile, seconds, its 90 % interval; None when no request has the metric.

    `among` (a mask of requests) restricts it.
    """
    values = []
    for result in found:
        known = series(result, metric) if among is None else series(result, metric)[among.astype(bool)]
        known = known[~np.isnan(known)]
        if not len(known):
            return None
        values.append(float(np.percentile(known, rank)))
    beside = math.exp(_Z90 * _BESIDE[metric])
    return values[0], min(values) / beside, max(values) * beside
