"""What load to expect within the hour: yesterday's curve, scaled to how today has begun, and its error. Pure.

Seasonal naive (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 5.2) with a level: the same moments of
the last day (and of the same weekday a week ago, where known), times what the last minutes had over what those minutes
had then. A close choice: see docs/decisions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from controlplane.domain.base import Value

BIN_S = 300
_DAY = 86_400 // BIN_S
_WEEK = 7 * _DAY
KEPT_BINS = _WEEK + _DAY
_LEVEL_BINS = 6  # half an hour: shorter is noise, longer misses a day that starts late
_LEAST_LEVEL, _MOST_LEVEL = 0.5, 2.0
"""How far one day may be from another before yesterday says nothing any more."""


class Arrivals(Value):
    """Mean arrivals per second of whole bins of `BIN_S` seconds, oldest first; None where nothing was known.

    `first` is the number of the first bin since the epoch.
    """

    first: int = 0
    rates_rps: tuple[float | None, ...] = Field(default=(), max_length=KEPT_BINS)

    @property
    def end(self) -> int:
        """Number of the first bin that is not known yet."""
        return self.first + len(self.rates_rps)

    def at(self, number: int) -> float | None:
        """Return the rate of one bin."""
        index = number - self.first
        return self.rates_rps[index] if 0 <= index < len(self.rates_rps) else None


def bin_of(at: datetime) -> int:
    """Return the number of the bin a moment lies in."""
    return math.floor(at.timestamp() / BIN_S)


def with_bin(arrivals: Arrivals, number: int, rate_rps: float) -> Arrivals:
    """Return the arrivals with one more bin, bins in between unknown, the oldest beyond eight days forgotten."""
    if number < arrivals.end:
        return arrivals
    if not arrivals.rates_rps or number - arrivals.end >= KEPT_BINS:
        return Arrivals(first=number, rates_rps=(rate_rps,))
    missing: tuple[float | None, ...] = (None,) * (number - arrivals.end)
    rates = (*arrivals.rates_rps, *missing, rate_rps)[-KEPT_BINS:]
    return Arrivals(first=number + 1 - len(rates), rates_rps=rates)


def expected_rps(arrivals: Arrivals, now: datetime, horizon_s: float) -> float | None:
    """Return the highest rate expected from now until `horizon_s` later; None without a day of history."""
    first, last = bin_of(now), math.floor((now.timestamp() + horizon_s) / BIN_S)
    return _highest(arrivals, known_until=first, bins=range(first, last + 1))


def mean_error(arrivals: Arrivals, horizon_s: float) -> float | None:
    """Return the mean absolute error over the mean rate of the forecasts of the last day; None for too little history.

    Each bin of the last day as it would have been foretold `horizon_s` before, with what was known then.
    """
    ahead = max(1, math.ceil(horizon_s / BIN_S))
    pairs = [
        (actual, foretold)
        for number in range(arrivals.end - _DAY, arrivals.end)
        if (actual := arrivals.at(number)) is not None
        and (foretold := _highest(arrivals, known_until=number - ahead + 1, bins=(number,))) is not None
    ]
    total = math.fsum(actual for actual, _ in pairs)
    if len(pairs) < _DAY // 4 or total <= 0:
        return None
    return math.fsum(abs(actual - foretold) for actual, foretold in pairs) / total


def _highest(arrivals: Arrivals, *, known_until: int, bins: Sequence[int]) -> float | None:
    level = _level(arrivals, known_until)
    expected = [before for number in bins if (before := _before(arrivals, number)) is not None]
    return None if level is None or not expected else level * max(expected)


def _before(arrivals: Arrivals, number: int) -> float | None:
    """Return the same moment of the days before: the mean of yesterday's and, where known, last week's."""
    known = [rate for back in (_DAY, _WEEK) if (rate := arrivals.at(number - back)) is not None]
    return math.fsum(known) / len(known) if known else None


def _level(arrivals: Arrivals, known_until: int) -> float | None:
    """Return how the last half hour compares with what the same half hour had; None when nobody knows."""
    pairs = [
        (now, then)
        for number in range(known_until - _LEVEL_BINS, known_until)
        if (now := arrivals.at(number)) is not None and (then := _before(arrivals, number)) is not None
    ]
    then = math.fsum(each for _, each in pairs)
    if len(pairs) < _LEVEL_BINS // 2 or then <= 0:
        return None
    return min(_MOST_LEVEL, max(_LEAST_LEVEL, math.fsum(each for each, _ in pairs) / then))
