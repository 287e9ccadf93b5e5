"""Which rate to try next within one engine life, and what capacity the rates tried add up to. Pure.

A candidate starts at the rate it has to beat. If it misses there for certain it is dropped: nothing below can make it
the winner. Otherwise the rates climb until one fails, fall until one passes, and the bracket between them is narrowed
until it is as thin as `precision`.

How far a level was from its limits says where the capacity lies: `pressure` is the worst miss ratio over the allowed
one, and the next rate is where a straight line through the logarithms of the two nearest pressures crosses 1. That
saves about a third of the levels of plain bisection, and never leaves the bracket.
"""

from __future__ import annotations

import math

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.capacity import Capacity

_FIRST_STEP = 1.25  # above a pass without a forecast
_STEP_GROWTH = 1.5
_MAX_STEP = 4.0
_FAR_PRESSURE = 4.0  # a level this far from its limits tells only the direction


class LadderOptions(Value):
    """`precision` is the relative width at which the bracket is thin enough."""

    precision: float = Field(default=0.05, gt=0, lt=1)
    max_levels: int = Field(default=10, ge=1)
    floor_rps: float = Field(default=0.05, gt=0, description="Below this a replica is of no use.")


class Rung(Value):
    """One rate tried. `pressure` is the worst ratio of misses to allowed misses (1 is exactly at a limit)."""

    rate_rps: float = Field(gt=0)
    passed: bool
    certain: bool
    pressure: float | None = Field(default=None, ge=0)


class Ladder(Value):
    """All rates tried so far in one engine life."""

    options: LadderOptions = LadderOptions()
    start_rps: float = Field(gt=0)
    beat_rps: float | None = Field(default=None, description="What the candidate must sustain to be worth anything.")
    forecast_rps: float | None = Field(default=None, description="Capacity expected by the twin or an earlier trial.")
    rungs: tuple[Rung, ...] = ()

    def climbed(self, rung: Rung) -> Ladder:
        """Return the ladder with one more level."""
        return self.evolve(rungs=(*self.rungs, rung))

    @property
    def low_rps(self) -> float:
        """The highest rate that passed below every failure; 0 when none did."""
        high = self.high_rps
        return max((rung.rate_rps for rung in self.rungs if rung.passed and rung.rate_rps < high), default=0.0)

    @property
    def high_rps(self) -> float:
        """The lowest rate that failed; infinite when none did."""
        return min((rung.rate_rps for rung in self.rungs if not rung.passed), default=math.inf)

    @property
    def is_dropped(self) -> bool:
        """True when the candidate missed for certain at or below the rate it had to beat."""
        if self.beat_rps is None:
            return False
        return any(not r.passed and r.certain and r.rate_rps <= self.beat_rps * (1 + 1e-9) for r in self.rungs)

    def next_rate(self) -> float | None:
        """Return the rate to try next, requests/s; None when enough is known."""
        if not self.rungs:
            return self.start_rps
        if self.is_dropped or len(self.rungs) >= self.options.max_levels:
            return None
        low, high = self.low_rps, self.high_rps
        if math.isinf(high):
            return self._above(low)
        if low == 0:
            return self._below(high)
        return self._between(low, high)

    def capacity(self) -> Capacity | None:
        """Return what the levels add up to; None when no rate passed."""
        low, high = self.low_rps, self.high_rps
        if low == 0:
            return None
        if math.isinf(high):
            return Capacity(rps=low, low_rps=low, high_rps=low, censored=True)
        return Capacity(rps=self._crossing(low, high), low_rps=low, high_rps=high)

    def _above(self, low: float) -> float:
        step = min(_MAX_STEP, _FIRST_STEP * _STEP_GROWTH ** (len(self.rungs) - 1))
        forecast = self.forecast_rps
        if forecast is not None and low * (1 + self.options.precision) < forecast < low * _MAX_STEP:
            return forecast * (1 + self.options.precision / 2)
        return low * step

    def _below(self, high: float) -> float | None:
        forecast = self.forecast_rps
        step = min(_MAX_STEP, _FIRST_STEP * _STEP_GROWTH ** (len(self.rungs) - 1))
        rate = high / step
        if forecast is not None and high / _MAX_STEP < forecast < high * (1 - self.options.precision):
            rate = forecast * (1 - self.options.precision / 2)
        return rate if rate >= self.options.floor_rps else None

    def _between(self, low: float, high: float) -> float | None:
        thin = 1 + self.options.precision
        if high / low <= thin * (1 + 1e-9):
            return None
        if self._is_stuck():
            return math.sqrt(low * high)
        crossing = self._crossing(low, high)
        # Near an end, one probe a bracket's width away from it settles the level for good.
        return max(min(crossing, high / thin), low * thin) if high / low > thin * thin else math.sqrt(low * high)

    def _is_stuck(self) -> bool:
        """True when the last two levels ended alike: interpolation then creeps along one end of the bracket."""
        last = [rung.passed for rung in self.rungs[-2:]]
        return len(self.rungs) > 2 and last[0] == last[1]

    def _crossing(self, low: float, high: float) -> float:
        """Return where the pressure is expected to be 1: geometric middle unless both ends tell how far they are."""
        below, above = self._pressure(low), self._pressure(high)
        if below is None or above is None or not below < 1 < above:
            return math.sqrt(low * high)
        share = math.log(1 / below) / math.log(above / below)
        return low * float((high / low) ** share)

    def _pressure(self, rate: float) -> float | None:
        found = next((r.pressure for r in reversed(self.rungs) if r.rate_rps == rate), None)
        if found is None:
            return None
        return min(max(found, 1 / _FAR_PRESSURE), _FAR_PRESSURE)
