"""The bounds of `domain.rollouts.bursts` on many series at once, for whole simulated rollouts by the thousand.

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
_HALVINGS = 14  # to less than a hundredth of a point
_EDGE = 1e-12
_ROUNDING = 1e-9
_DECLARED_WEIGHT = 2.0
_SLACK = 0.8
_EXPECTED_WEIGHT = 300.0


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


def most(seen: Many, alpha: float, least_end: Array, expected: Many | None = None) -> Array:
    """As `bursts.most`."""
    chain = _Chain(seen, expected)
    ends, after_hit = seen.runs - seen.open, seen.hits - seen.open
    floor = np.minimum(least_end, (_SLACK * ends + _DECLARED_WEIGHT * least_end) / (after_hit + _DECLARED_WEIGHT))
    inside = chain.estimate(floor)
    return _bisected(chain, floor, inside, np.ones_like(inside), alpha)


def least(seen: Many, alpha: float, least_end: Array, expected: Many | None = None) -> Array:
    """As `bursts.least`."""
    chain = _Chain(seen, expected)
    start = chain.estimate(least_end)
    outside = _bisected(chain, least_end, start, np.zeros_like(start), alpha)
    impossible = chain.least_at(start, least_end) >= -np.log(alpha)
    return np.where(impossible, seen.hits / np.maximum(1, seen.n), outside)


def _bisected(chain: _Chain, floor: Array, inside: Array, outside: Array, alpha: float) -> Array:
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        within = chain.least_at(middle, floor) < -np.log(alpha)
        inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    return outside


_Coins = tuple[Array, Array, Array, Array]


def _coins(seen: Many) -> _Coins:
    ends = seen.runs - seen.open
    return seen.runs, seen.n - seen.hits + seen.open - seen.runs, ends, seen.hits - seen.open - ends


def _log_mixture(seen: _Coins, expected: _Coins) -> Array:
    return np.asarray(sum(_log_coin(*seen[at : at + 2], *expected[at : at + 2]) for at in (0, 2)))


def _log_coin(hits: Array, others: Array, expected_hits: Array, expected_others: Array) -> Array:
    weight = np.minimum(1.0, _EXPECTED_WEIGHT / np.maximum(1, expected_hits + expected_others))
    a, b = _PRIOR + weight * expected_hits, _PRIOR + weight * expected_others
    return np.asarray(betaln(a + hits, b + others) - betaln(a, b))


class _Chain:
    """As `bursts._Chain`."""

    def __init__(self, seen: Many, expected: Many | None) -> None:
        coins = _coins(seen)
        self.starts, self.stays, self.ends, self.goes_on = coins
        self._mixture = _log_mixture(coins, (np.zeros(1),) * 4)
        if expected is not None:
            self._mixture = np.logaddexp(self._mixture, _log_mixture(coins, _coins(expected))) - np.log(2)

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
