"""Memory that grows with every request is full one day, and whatever is in flight then is lost. Pure.

A canary's memory grows while it warms up too: that slows down, a leak does not. So the newer two thirds of what a
replica said are cut in four, and growth counts when each quarter has its part. Stable's replicas are measured the same
way: what grows there too is not the canary's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from controlplane.domain.rollouts.pressure import TIMES, Loads, Pressure, Readings
from controlplane.domain.rollouts.rollout_options import RolloutOptions

_READINGS = 24  # of a replica, a second apart: fewer say nothing
_PARTS = 4
_STEADY = 0.7
"""Of the mean part: where growth slows down as a logarithm does, the last one has 0.66."""
_HOST_TIMES = 5.0
"""A process's own memory is noisier than a GPU's: it has to grow by so many times as large a share."""


class _Growth(NamedTuple):
    """What one replica's memory grew by, as a share, and how fast."""

    share: float
    per_s: float
    steady: bool


def leak(mine: Sequence[Readings], theirs: Sequence[Readings], loads: Loads, options: RolloutOptions) -> str | None:
    """Say that a canary replica's memory grows without end where stable's does not; None where none does."""
    limit = options.guard_memory_growth
    kinds = ((_of_gpu, limit, "the GPU memory"), (_of_host, _HOST_TIMES * limit, "the process memory"))
    for of, least, said in kinds:
        own, others = ([found for each in arm if (found := _growth(each, of)) is not None] for arm in (mine, theirs))
        if not others or loads.stable_rps <= 0:
            continue
        beside = loads.ratio * max(each.per_s for each in others)
        for each in own:
            if each.steady and each.share >= least and each.per_s > TIMES * beside:
                return f"{said} of a canary replica grows with every request, {_described(each, beside)}"
    return None


def _described(own: _Growth, beside: float) -> str:
    pace, stable = (60 * 100 * each for each in (own.per_s, max(0.0, beside)))
    return f"by {100 * own.share:.1f} % so far, {pace:.2f} % a minute, where one of stable would grow by {stable:.2f} %"


def _of_gpu(reading: Pressure) -> float | None:
    return reading.gpu_memory


def _of_host(reading: Pressure) -> float | None:
    return reading.resident_gib


def _growth(readings: Readings, of: Callable[[Pressure], float | None]) -> _Growth | None:
    """Return the growth over the newer two thirds: of a GPU in shares of all of it, of a process of what it held."""
    told = [(each.at, value) for each in readings if (value := of(each)) is not None]
    if len(told) < _READINGS:
        return None
    kept = told[len(told) // 3 :]
    marks = [kept[(len(kept) - 1) * part // _PARTS] for part in range(_PARTS + 1)]
    whole = 1.0 if of is _of_gpu else marks[0][1]
    parts = [(after[1] - before[1]) / whole for before, after in pairwise(marks)]
    share, seconds = sum(parts), (marks[-1][0] - marks[0][0]).total_seconds()
    steady = share > 0 and min(parts) >= _STEADY * share / _PARTS
    return _Growth(share, share / seconds, steady)
