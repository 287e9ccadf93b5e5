"""Which rate to try next within one engine life, and what capacity the rates tried add up to. Pure.

A candidate starts at the rate it has to beat. If it misses there for certain it is dropped: nothing below can make it
the winner. Otherwise the rates climb until one fails, fall until one passes, and the bracket between them is narrowed
until its middle is within `precision` of either end.

A level that failed early would have failed as a whole: misses cannot be taken back. A level that passed early may yet
fail, because a queue that grows slowly shows late. So an early pass only says where to go next (`whole` is false), the
low end of the final bracket is always a level that ran its whole time, and near a known failure a level may not pass
early at all (`may_pass_early`). Failures are cheap (8-40 s), whole passes are what a ladder costs.

The interval is `precision` to both sides of the found capacity and never less than the bracket. A level within noise of
its limit is no firm end of one: the interval then reaches one more `precision` beyond it.

A twin fitted to the levels so far (`fitted_twin.py`) says far better than a forecast where the limit is: then the next
rates are just below and just above that, and the capacity is what it expects, held within the bracket. Without one, how
far a level was from its limits says where the capacity lies: `pressure` is the worst miss ratio over the allowed
one, and the next rate is where a straight line through the logarithms of the two nearest pressures crosses 1.
"""

from __future__ import annotations

import math

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.studies.capacity import Capacity

_STEEPNESS = 3.0  # least power of the rate with which miss ratios were seen to grow near their limit
_MIN_STEP, _MAX_STEP = 1.12, 1.3
_STEP_GROWTH, _FARTHEST = 1.3, 4.0
_ROOM = 1.5  # final brackets between an early pass and the nearest failure
_NEAR_WIDTH = 1.4  # final brackets between two levels near their limit
_NEAR_PRESSURE = 2.0
_FAR_PRESSURE = 4.0  # a level this far from its limits tells only the direction
_FITTED_WIDTH = 0.75  # final brackets in which a fitted twin's capacity is held
_DOUBTFUL_PRESSURE = 1.25  # run again, a level this near may end the other way: one miss in ten, 2 % of latency


class LadderOptions(Value):
    """`precision` is the relative distance of the capacity from either end of the final bracket."""

    precision: float = Field(default=0.05, gt=0, lt=1)
    max_levels: int = Field(default=10, ge=1)
    floor_rps: float = Field(default=0.05, gt=0, description="Below this a replica is of no use.")

    @property
    def width(self) -> float:
        """The ratio of the final bracket's ends."""
        return (1 + self.precision) ** 2


class Rung(Value):
    """One rate tried. `pressure` is the worst ratio of misses to allowed misses (1 is exactly at a limit)."""

    rate_rps: float = Field(gt=0)
    passed: bool
    certain: bool
    pressure: float | None = Field(default=None, ge=0)
    whole: bool = Field(default=True, description="False for a pass before its time, which proves little.")


class Ladder(Value):
    """All rates tried so far in one engine life."""

    options: LadderOptions = LadderOptions()
    start_rps: float = Field(gt=0)
    beat_rps: float | None = Field(default=None, description="What the candidate must sustain to be worth anything.")
    forecast_rps: float | None = Field(default=None, description="Capacity expected by the twin or an earlier trial.")
    fitted_rps: float | None = Field(default=None, gt=0, description="Capacity by a twin fitted to the levels so far.")
    rungs: tuple[Rung, ...] = ()

    def climbed(self, rung: Rung, *, fitted_rps: float | None = None) -> Ladder:
        """Return the ladder with one more level, and with what a twin fitted to all of them expects."""
        return self.evolve(rungs=(*self.rungs, rung), fitted_rps=fitted_rps)

    @property
    def low_rps(self) -> float:
        """The highest rate that passed below every failure, early or not; 0 when none did."""
        return self._highest_pass(firm=False)

    @property
    def firm_rps(self) -> float:
        """The highest rate that passed as a whole level below every failure; 0 when none did."""
        return self._highest_pass(firm=True)

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
        if (believed := self._believed_rps()) is not None:
            return self._around(believed)
        low, high = self.low_rps, self.high_rps
        if math.isinf(high):
            return self._above(low)
        if low == 0:
            return self._below(high)
        return self._between(low, high)

    def may_pass_early(self, rate_rps: float) -> bool:
        """Say whether an early pass at this rate would leave room for a later, whole one."""
        room = math.pow(self.options.width, _ROOM)
        return self.high_rps > rate_rps * room and (self.fitted_rps is None or self.fitted_rps > rate_rps * room)

    def capacity(self) -> Capacity | None:
        """Return what the levels add up to; None when no rate passed."""
        low, high = self.firm_rps or self.low_rps, self.high_rps
        if low == 0:
            return None
        if math.isinf(high):
            return Capacity(rps=low, low_rps=low, high_rps=low, censored=True)
        believed, off = self._believed_rps(), 1 + self.options.precision
        found = self._crossing(low, high) if believed is None else min(max(believed, low), high)
        least, most = self._end(low, 1 / off), self._end(high, off)
        if high / low > math.pow(self.options.width, _NEAR_WIDTH) * (1 + 1e-9):  # it ran out of levels
            return Capacity(rps=found, low_rps=least, high_rps=most)
        return Capacity(rps=found, low_rps=min(found / off, least), high_rps=max(found * off, most))

    def _end(self, rate: float, outward: float) -> float:
        """Return an end of the interval: farther out than the bracket's where the verdict there could be noise."""
        pressure = self._pressure(rate)
        doubtful = pressure is not None and max(pressure, 1 / pressure) < _DOUBTFUL_PRESSURE
        return rate * outward if doubtful else rate

    def _highest_pass(self, *, firm: bool) -> float:
        high = self.high_rps
        passes = [rung for rung in self.rungs if rung.passed and (rung.whole or not firm)]
        return max((rung.rate_rps for rung in passes if rung.rate_rps < high), default=0.0)

    def _around(self, fitted: float) -> float | None:
        """Return a rate just below what the fitted twin expects until one passed there, then one just above."""
        step, firm, high = 1 + self.options.precision, self.firm_rps, self.high_rps
        if firm > 0 and (high / firm <= math.pow(self.options.width, _FITTED_WIDTH) or self._encloses(fitted)):
            return None
        if firm * step < fitted:  # nothing passed near enough below it
            rate = max(min(fitted / math.sqrt(step), high / step), self.low_rps)
        else:
            rate = fitted * math.sqrt(step)
        least = min(step, math.sqrt(high / firm)) if firm > 0 else 1.0
        rate = min(max(rate, firm * least), high / least)
        return rate if rate >= self.options.floor_rps else None

    def _believed_rps(self) -> float | None:
        """Return what the fitted twin expects, None when levels said otherwise: a cliff that it does not know."""
        fitted, room = self.fitted_rps, self.options.width
        return fitted if fitted is not None and self.firm_rps / room <= fitted <= self.high_rps * room else None

    def _encloses(self, fitted: float) -> bool:
        """True when a whole pass just below and a failure just above confirm what the fitted twin expects."""
        step = 1 + self.options.precision
        return self.firm_rps * step >= fitted >= self.high_rps / step

    def _above(self, low: float) -> float:
        forecast, width = self.forecast_rps, self.options.width
        if forecast is not None and low * width < forecast < low * _FARTHEST:
            return forecast * (1 + self.options.precision)
        return low * self._step(low)

    def _below(self, high: float) -> float | None:
        forecast = self.forecast_rps
        rate = high / self._step(high)
        if forecast is not None and high / _FARTHEST < forecast < high / self.options.width:
            rate = forecast / (1 + self.options.precision)
        return rate if rate >= self.options.floor_rps else None

    def _step(self, rate: float) -> float:
        """Return how far the limit may be from a level: little when it was near it, more each time it was not."""
        farthest = min(_MAX_STEP * _STEP_GROWTH ** (len(self.rungs) - 1), _FARTHEST)
        pressure = self._pressure(rate)
        if pressure is None or not 1 / _FAR_PRESSURE < pressure < _FAR_PRESSURE:
            return farthest
        return min(max(math.pow(max(pressure, 1 / pressure), 1 / _STEEPNESS), _MIN_STEP), farthest)

    def _between(self, low: float, high: float) -> float | None:
        width = self.options.width * (1 + 1e-9)
        firm = self.firm_rps
        if firm > 0 and (high / firm <= width or self._is_near(firm, high)):
            return None
        if high / low <= width:
            return high / self.options.width
        if high / low <= width**2 or self._is_stuck():
            return math.sqrt(low * high)
        return max(min(self._crossing(low, high), high / self.options.width), low * self.options.width)

    def _is_near(self, low: float, high: float) -> bool:
        """True when both ends are so near the limit that a line between them finds it."""
        ends = [self._pressure(low), self._pressure(high)]
        near = all(end is not None and 1 / _NEAR_PRESSURE <= end <= _NEAR_PRESSURE for end in ends)
        return near and high / low <= math.pow(self.options.width, _NEAR_WIDTH)

    def _is_stuck(self) -> bool:
        """True when the last two levels ended alike: interpolation then creeps along one end of the bracket."""
        last = [rung.passed for rung in self.rungs[-2:]]
        return len(self.rungs) > 2 and last[0] == last[1]

    def _crossing(self, low: float, high: float) -> float:
        """Return where the pressure is expected to be 1: geometric middle unless both ends tell how far they are."""
        below, above = self._pressure(low), self._pressure(high)
        if below is None or above is None or min(below, 1) == max(above, 1):
            return math.sqrt(low * high)
        below, above = min(below, 1), max(above, 1)
        share = math.log(1 / below) / math.log(above / below)
        return low * float((high / low) ** share)

    def _pressure(self, rate: float) -> float | None:
        found = next((r.pressure for r in reversed(self.rungs) if r.rate_rps == rate), None)
        if found is None:
            return None
        return min(max(found, 1 / _FAR_PRESSURE), _FAR_PRESSURE)
