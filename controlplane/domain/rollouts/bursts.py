"""Anytime-valid bounds on a ratio whose hits come in runs, as queueing and sessions make misses come.

Requests of one revision form a chain of two states, hit and no hit: a run starts with probability a after a request
that was no hit, and ends with probability b after one that was. The ratio of hits is a / (a + b), the mean run 1 / b
(Gilbert 1960, "Capacity of a burst-noise channel"). Given the state before, each step is a plain coin, so

    M(a, b) = mixture(starts | a) · mixture(ends | b)

of two Robbins mixtures (see `anytime`) is a martingale at the true pair however long the runs are, and the pairs with
M < 1/alpha cover it at every look with probability 1 − alpha. Independent hits are the case a + b = 1. Without a run
seen nothing is known of b, so a longest mean run is taken from elsewhere: from what stable shows, else declared.

A martingale may bet on anything known beforehand. Most of each coin's mixture bets that it falls as stable's did before
the step (`expected`): where it does, bounds need far fewer requests, and where it does not they are as valid.

Everything here costs the same for ten requests and for ten million: four counts are all that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from pydantic import Field

from controlplane.domain.base import Value

_PRIOR = 0.5  # Jeffreys, for both coins
_HALVINGS = 40
_EDGE = 1e-12
_ROUNDING = 1e-9
"""Where all requests so far missed, the likeliest chain lies on the edge of what is possible: not beyond it."""
_DECLARED_WEIGHT = 2.0
"""A declared mean run counts as much as so many hits seen: a few runs are enough to correct it."""
_EXPECTED_WEIGHT = 1000.0
"""What is expected counts as much as so many requests at most: stable may have changed since."""
_EXPECTED_SHARE = 0.85
"""Of the mixture; the rest is Jeffreys' and pays at most log(1 / 0.15) more where nothing is as expected."""
_SLACK = 0.8
"""Runs may be a quarter longer than those of stable: its mean run is an estimate too."""
_ASKED_AGAIN = 4096
"""Mixtures kept: one pass asks three of four times for one that it knows, as a pass before or another bound asked."""


class Runs(Value):
    """How hits followed each other, summed over the chains (one per gateway)."""

    runs: int = Field(default=0, ge=0, description="Uninterrupted series of hits, those not over included.")
    open: int = Field(default=0, ge=0, description="Chains whose last request was a hit.")


class Series(NamedTuple):
    """Everything that bounds need to know of one kind of hit."""

    n: int
    hits: int
    runs: int
    open: int

    @property
    def ratio(self) -> float:
        return self.hits / self.n if self.n else 0.0


def series(n: int, hits: int, runs: Runs | None) -> Series:
    """Return a series; without knowledge of the runs as many as independent hits would have.

    Raises ValueError for counts that cannot be.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits in {n} requests cannot be")
    if runs is None:
        expected = min(hits, max(1, round(hits * (n - hits) / n))) if hits else 0
        return Series(n, hits, expected, int(expected > n - hits))
    if runs.runs > min(hits, n - hits + runs.open) or runs.open > runs.runs:
        raise ValueError(f"{runs.runs} runs, {runs.open} open, in {hits} hits cannot be")
    return Series(n, hits, runs.runs, runs.open)


def expected_end(known: Iterable[Series], declared_run: float) -> float:
    """Return the least probability with which a run is expected to end, from what stable shows and what is declared."""
    seen = list(known)
    ends = sum(each.runs - each.open for each in seen)
    after_hit = sum(each.hits - each.open for each in seen)
    return end_of(ends, after_hit, declared_run)


def end_of(ends: int, after_hit: int, declared_run: float) -> float:
    """Return it of counts: so many runs ended, after so many hits."""
    return (_SLACK * ends + _DECLARED_WEIGHT / declared_run) / (after_hit + _DECLARED_WEIGHT)


def most(seen: Series, alpha: float, *, least_end: float, expected: Series | None = None) -> float:
    """Return what the ratio of hits is at most. Runs end with `least_end` at least, or as seldom as these show."""
    chain = Chain(seen, expected)
    floor = min(least_end, expected_end([seen], 1 / least_end))
    budget = -math.log(alpha)
    inside, outside = chain.estimate(floor), 1.0
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if chain.least_at(middle, floor) < budget:
            inside = middle
        else:
            outside = middle
    return outside


def least(seen: Series, alpha: float, *, least_end: float, expected: Series | None = None) -> float:
    """Return what the ratio of hits is at least, where runs end with `least_end` at least.

    Runs so long that no such chain explains them leave only the ratio seen.
    """
    chain = Chain(seen, expected)
    budget = -math.log(alpha)
    start = chain.estimate(least_end)
    if chain.least_at(start, least_end) >= budget:
        return seen.ratio
    outside, inside = 0.0, start
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        if chain.least_at(middle, least_end) < budget:
            inside = middle
        else:
            outside = middle
    return outside


class _Coins(NamedTuple):
    """What the two coins of a chain showed."""

    starts: int
    stays: int  # no hit after no hit
    ends: int
    goes_on: int  # a hit after a hit


def _coins(seen: Series) -> _Coins:
    ends = seen.runs - seen.open
    return _Coins(seen.runs, seen.n - seen.hits + seen.open - seen.runs, ends, seen.hits - seen.open - ends)


class Chain:
    """The log martingale of one series, convex in both coins. Bounded alone here, with another one in `pairs`."""

    def __init__(self, seen: Series, expected: Series | None) -> None:
        coins = _coins(seen)
        self.starts, self.stays, self.ends, self.goes_on = coins
        self._mixture = _log_mixture(coins, None if expected is None else _coins(expected))

    def estimate(self, floor: float) -> float:
        """The most likely ratio among chains whose runs end with `floor` at least."""
        a = self.starts / max(1, self.starts + self.stays)
        after_hit = self.ends + self.goes_on
        b = max(floor, self.ends / after_hit if after_hit else floor)
        return a / (a + b)

    def least_at(self, ratio: float, floor: float) -> float:
        """The least log martingale among chains of this ratio.

        Along a = k · b with k = ratio / (1 − ratio) the slope in b is zero at a root of a quadratic.
        """
        if ratio <= 0:
            return self._at(0.0, max(floor, _mode(self.ends, self.goes_on)))
        k = ratio / (1 - ratio) if ratio < 1 else math.inf
        highest = min(1.0, 1 / k)
        if floor > highest * (1 + _ROUNDING):
            return math.inf
        events = self.starts + self.ends
        square = k * (events + self.stays + self.goes_on)
        linear = events * (1 + k) + self.stays * k + self.goes_on
        best = highest if square == 0 else _lesser_root(square, linear, events)
        b = min(max(best, floor), highest)
        return self._at(min(1.0, k * b), b)

    def _at(self, a: float, b: float) -> float:
        return (
            self._mixture
            - _times_log(self.starts, a)
            - _times_log(self.stays, 1 - a)
            - _times_log(self.ends, b)
            - _times_log(self.goes_on, 1 - b)
        )


def _lesser_root(square: float, linear: float, constant: float) -> float:
    return 2 * constant / (linear + math.sqrt(max(0.0, linear * linear - 4 * square * constant)))


def _mode(hits: int, others: int) -> float:
    return hits / (hits + others) if hits + others else 1.0


@lru_cache(maxsize=_ASKED_AGAIN)
def _log_mixture(seen: _Coins, expected: _Coins | None) -> float:
    """Each coin has a mixture of its own: misses may come as often as expected, and yet in other runs."""
    if expected is None:
        return _log_coin(seen.starts, seen.stays) + _log_coin(seen.ends, seen.goes_on)
    starts = _log_bets(seen.starts, seen.stays, expected.starts, expected.stays)
    return starts + _log_bets(seen.ends, seen.goes_on, expected.ends, expected.goes_on)


def _log_bets(hits: int, others: int, expected_hits: int, expected_others: int) -> float:
    """Jeffreys' prior beside the same sharpened by what is expected, as if so much of it had been seen."""
    weight = min(1.0, _EXPECTED_WEIGHT / max(1, expected_hits + expected_others))
    informed = _log_coin(hits, others, weight * expected_hits, weight * expected_others)
    plain = _log_coin(hits, others)
    larger = max(informed, plain)
    shares = _EXPECTED_SHARE * math.exp(informed - larger) + (1 - _EXPECTED_SHARE) * math.exp(plain - larger)
    return larger + math.log(shares)


def _log_coin(hits: int, others: int, known_hits: float = 0.0, known_others: float = 0.0) -> float:
    a, b = _PRIOR + known_hits, _PRIOR + known_others
    return _log_beta(a + hits, b + others) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: int, p: float) -> float:
    if count == 0:
        return 0.0
    return count * math.log(p) if p > _EDGE else -math.inf
