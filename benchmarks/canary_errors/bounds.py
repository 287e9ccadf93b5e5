"""The bounds of `domain.rollouts.bursts` and `pairs` on many series at once, for rollouts by the thousand.

The same formulas on arrays; `tests/unit/benchmarks/test_canary_errors.py` holds them to the ones that judge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, xlogy

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_PRIOR = 0.5
_SECTIONS = 14
_GOLDEN = (5**0.5 - 1) / 2
_STAKES = np.log([0.75, 0.2, 0.05])
_EDGE = 1e-12
_ROUNDING = 1e-9
_DECLARED_WEIGHT = 2.0
_SLACK = 0.8
_EXPECTED_WEIGHT = 1000.0
_EXPECTED_SHARE = 0.85


class Many(NamedTuple):
    """Counts of many series; all of one shape."""

    n: Array
    hits: Array
    runs: Array
    open: Array


def expected_end(known: list[Many], declared_run: float) -> Array:
    """As `bursts.expected_end`."""
    ends = sum((each.runs - each.open for each in known), np.zeros(1))
    after_hit = sum((each.hits - each.open for each in known), np.zeros(1))
    return (_SLACK * ends + _DECLARED_WEIGHT / declared_run) / (after_hit + _DECLARED_WEIGHT)


def as_seldom(seen: Many, least_end: Array) -> Array:
    """As `comparing._as_seldom`."""
    ends, after_hit = seen.runs - seen.open, seen.hits - seen.open
    return np.minimum(least_end, (_SLACK * ends + _DECLARED_WEIGHT * least_end) / (after_hit + _DECLARED_WEIGHT))


class Difference:
    """As `pairs.Difference`: both sides bet on what was seen before."""

    def __init__(self, mine: Many, others: Many, ends: tuple[Array, Array], before: Many) -> None:
        self._sides = [_Chain(seen, before) for seen in (mine, others)]
        self._floors = ends
        self._estimates = [side.estimate(end) for side, end in zip(self._sides, ends, strict=True)]
        self.estimate = self._estimates[0] - self._estimates[1]

    def above(self, difference: float, alpha: float) -> Bools:
        return (self.estimate > difference) & self._outside(difference, alpha)

    def below(self, difference: float, alpha: float) -> Bools:
        return (self.estimate < difference) & self._outside(difference, alpha)

    def explained(self, alpha: float) -> Bools:
        return ~self._outside(self.estimate, alpha)

    def _outside(self, difference: float | Array, alpha: float) -> Bools:
        return np.asarray(self.least_at(difference) >= -np.log(alpha))

    def least_at(self, difference: float | Array) -> Array:
        first, last = np.maximum(0.0, -difference), 1 / (1 + self._floors[1])
        last = np.minimum(last, 1 / (1 + self._floors[0]) - difference)
        ends = [np.clip(each, first, np.maximum(first, last)) for each in self._crossing(difference)]
        return np.where(first > last, np.inf, self._golden(difference, np.minimum(*ends), np.maximum(*ends)))

    def _crossing(self, difference: float | Array) -> tuple[Array, Array]:
        shape = self.estimate.shape
        return np.broadcast_to(self._estimates[0] - difference, shape), np.broadcast_to(self._estimates[1], shape)

    def _at(self, ratio: Array, difference: float | Array) -> Array:
        mine = self._sides[0].least_at(np.clip(ratio + difference, 0, 1), self._floors[0])
        others = self._sides[1].least_at(ratio, self._floors[1])
        together = np.logaddexp(_STAKES[0] + mine + others, _STAKES[1] + mine)
        return np.asarray(np.logaddexp(together, _STAKES[2] + others))

    def _golden(self, difference: float | Array, low: Array, high: Array) -> Array:
        found = np.minimum(self._at(low, difference), self._at(high, difference))
        for _ in range(_SECTIONS):
            inner = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
            seen = [self._at(each, difference) for each in inner]
            left = seen[0] < seen[1]
            low, high = np.where(left, low, inner[0]), np.where(left, inner[1], high)
            found = np.minimum(found, np.minimum(*seen))
        return found


_Coins = tuple[Array, Array, Array, Array]


def _coins(seen: Many) -> _Coins:
    ends = seen.runs - seen.open
    return seen.runs, seen.n - seen.hits + seen.open - seen.runs, ends, seen.hits - seen.open - ends


def _log_mixture(seen: _Coins, expected: _Coins) -> Array:
    return np.asarray(sum(_log_bets(*seen[at : at + 2], *expected[at : at + 2]) for at in (0, 2)))


def _log_bets(hits: Array, others: Array, expected_hits: Array, expected_others: Array) -> Array:
    weight = np.minimum(1.0, _EXPECTED_WEIGHT / np.maximum(1, expected_hits + expected_others))
    informed = _log_coin(hits, others, weight * expected_hits, weight * expected_others)
    plain = _log_coin(hits, others, np.zeros(1), np.zeros(1))
    return np.asarray(np.logaddexp(np.log(_EXPECTED_SHARE) + informed, np.log(1 - _EXPECTED_SHARE) + plain))


def _log_coin(hits: Array, others: Array, known_hits: Array, known_others: Array) -> Array:
    a, b = _PRIOR + known_hits, _PRIOR + known_others
    return np.asarray(betaln(a + hits, b + others) - betaln(a, b))


class _Chain:
    """As `bursts.Chain`."""

    def __init__(self, seen: Many, expected: Many) -> None:
        coins = _coins(seen)
        self.starts, self.stays, self.ends, self.goes_on = coins
        self._mixture = _log_mixture(coins, _coins(expected))

    def estimate(self, floor: Array) -> Array:
        a = self.starts / np.maximum(1, self.starts + self.stays)
        after_hit = self.ends + self.goes_on
        b = np.maximum(floor, np.where(after_hit > 0, self.ends / np.maximum(1, after_hit), floor))
        return np.asarray(a / (a + b))

    def least_at(self, ratio: Array, floor: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            k = ratio / (1 - ratio)
            highest = np.minimum(1.0, 1 / k)
            events = self.starts + self.ends
            square = k * (events + self.stays + self.goes_on)
            linear = events * (1 + k) + self.stays * k + self.goes_on
            root = 2 * events / (linear + np.sqrt(np.maximum(0.0, linear * linear - 4 * square * events)))
            best = np.where(square == 0, highest, root)
            b = np.minimum(np.maximum(best, floor), highest)
            value = self._at(np.minimum(1.0, k * b), b)
        return np.where(floor > highest * (1 + _ROUNDING), np.inf, np.where(ratio <= 0, self._at_none(floor), value))

    def _at_none(self, floor: Array) -> Array:
        after_hit = self.ends + self.goes_on
        mode = np.where(after_hit > 0, self.ends / np.maximum(1, after_hit), 1.0)
        return self._at(np.zeros_like(mode), np.maximum(floor, mode))

    def _at(self, a: Array, b: Array) -> Array:
        parts = [(self.starts, a), (self.stays, 1 - a), (self.ends, b), (self.goes_on, 1 - b)]
        return np.asarray(self._mixture - sum(xlogy(count, np.where(p > _EDGE, p, 0.0)) for count, p in parts))
