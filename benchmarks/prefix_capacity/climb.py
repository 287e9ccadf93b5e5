"""From a few rates to a capacity: the first two decide whether a prediction holds, the others narrow the bracket."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.prefix_capacity.cells import Level

TARGET = 0.15
STEP = 1 + TARGET


def next_rate(levels: Sequence[Level], expected_rps: float) -> float:
    """Return the rate to try: 15 % below what is expected, 15 % above, on outwards, then the middle of the bracket."""
    low, high = bracket(levels)
    if low is None:
        return (expected_rps if high is None else high.rate_rps) / STEP
    if high is None:
        return low.rate_rps * (STEP**2 if low.rate_rps < expected_rps else STEP)
    return math.sqrt(low.rate_rps * high.rate_rps)


def bracket(levels: Sequence[Level]) -> tuple[Level | None, Level | None]:
    """Return the highest rate that passed below the lowest that missed, and that one. Invalid levels say nothing."""
    valid = [level for level in levels if level.valid]
    high = min((level for level in valid if not level.passed), default=None)
    passed = (level for level in valid if level.passed and (high is None or level.rate_rps < high.rate_rps))
    return max(passed, default=None), high


def is_bracketed(levels: Sequence[Level]) -> bool:
    """Say whether some rate passed and a higher one missed."""
    return None not in bracket(levels)


def found(levels: Sequence[Level]) -> float:
    """Return the capacity: where a line through the logarithms of the bracket's ends meets the limit.

    0 where nothing passed; without a miss the highest rate that passed.
    """
    low, high = bracket(levels)
    if low is None or high is None:
        return low.rate_rps if low is not None else 0.0
    width, share = math.log(high.rate_rps / low.rate_rps), 0.5
    if math.isfinite(high.worst) and low.worst < 1 < high.worst:
        share = -math.log(low.worst) / math.log(high.worst / low.worst)
    return low.rate_rps * math.exp(width * share)
