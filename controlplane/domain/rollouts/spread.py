"""Latencies of one arm, kept so that any percentile can be bounded at every look, at a price no look adds to. Pure.

Whether a request took longer than x is a coin like a miss, and such hits come in runs: for every x of a fixed grid the
four counts of a chain (`bursts`) are kept, all of them by two increments a request. A percentile is bounded by the x of
which the chain is certain that more, or fewer, than their part of the requests take longer (Howard and Ramdas,
"Sequential estimation of quantiles with applications to A/B testing and best-arm identification", Bernoulli 2022). Only
the coin at the true percentile can err, so nothing has to be divided by the number of x, and of two neighbours of the
grid the outer one is told: what the grid cannot see makes bounds wider.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from controlplane.domain.rollouts.bursts import Chain, Series, end_of

_LEAST_MS = 0.1
_PER_DECADE = 128  # 1.8 % apart
_MOST = 8 * _PER_DECADE  # ten thousand seconds
_MIXED_RUNS = 1.5
"""Short runs of slow requests and long ones have together a larger variance than a chain of their mean run."""


class Spread:
    """Values of one latency, request by request along their chains (one per gateway)."""

    def __init__(self) -> None:
        self.n = 0
        self._hits: Counter[int] = Counter()
        self._starts: Counter[int] = Counter()  # of runs beyond an edge: how many more than beyond the edge before
        self._last: dict[Hashable, int] = {}

    def see(self, chain: Hashable, ms: float) -> None:
        found, before = _bucket(ms), self._last.get(chain, 0)
        self.n += 1
        self._hits[found] += 1
        if found > before:
            self._starts[before] += 1
            self._starts[found] -= 1
        self._last[chain] = found

    def curve(self) -> Curve:
        """Return what was seen so far, beyond every edge of the grid."""
        last = Counter(self._last.values())
        return Curve(
            self.n,
            hits=_beyond(self.n, self._hits),
            runs=tuple(_sums(self._starts)),
            open=_beyond(len(self._last), last),
        )


class Curve(NamedTuple):
    """How many values lie beyond each edge, in how many runs, and how many of these are open."""

    n: int
    hits: Sequence[int]
    runs: Sequence[int]
    open: Sequence[int]

    def at(self, edge: int) -> Series:
        return Series(self.n, self.hits[edge], self.runs[edge], self.open[edge])

    def percentile_ms(self, percentile: float) -> float:
        """Return the percentile of what was seen, to the grid. Raises ValueError where nothing was."""
        if not self.n:
            raise ValueError("no value was seen")
        edge = self.edge_of(percentile)
        return math.sqrt(_ms(edge) * _ms(max(0, edge - 1)))

    def edge_of(self, percentile: float) -> int:
        """Return the first edge that so much of what was seen does not exceed."""
        beyond = (1 - percentile / 100) * self.n
        return bisect.bisect_left(self.hits, -beyond, key=lambda hits: -hits)


class Beside(NamedTuple):
    """What bounds of one arm's percentiles rest on, beside its own values."""

    known: Sequence[Curve]
    """Of stable: runs are taken to end as seldom as in these."""
    expected: Curve | None
    """Of stable before the step: bounds bet on it."""
    declared_run: float


class Range(NamedTuple):
    """What a percentile is at least and at most. None: nothing is known of it yet."""

    low_ms: float
    high_ms: float | None


def bounds(seen: Curve, percentile: float, alpha: float, beside: Beside) -> Range:
    """Return the range that holds the true percentile at every look with probability ≥ 1 − alpha."""
    ratio, middle = 1 - percentile / 100, seen.edge_of(percentile)
    budget = -_MIXED_RUNS * math.log(alpha)

    def is_out(edge: int) -> bool:
        chain = Chain(seen.at(edge), None if beside.expected is None else beside.expected.at(edge))
        return chain.least_at(ratio, (1 - ratio) * _forgets(seen, edge, beside)) >= budget

    lower = _nearest(range(middle - 1, -1, -1), is_out)
    upper = _nearest(range(middle, _MOST), is_out)
    return Range(0.0 if lower is None else _ms(lower), None if upper is None else _ms(upper))


def _nearest(edges: Sequence[int], is_out: Callable[[int], bool]) -> int | None:
    """Return the first edge that is out, going away from the percentile seen in steps twice as long each time."""
    inside, step = 0, 1
    while inside + step <= len(edges) and not is_out(edges[inside + step - 1]):
        inside, step = inside + step, 2 * step
    outside = min(inside + step, len(edges))
    found = bisect.bisect_left(range(inside, outside), True, key=lambda place: is_out(edges[place])) + inside
    return edges[found] if found < outside else None


def _forgets(seen: Curve, edge: int, beside: Beside) -> float:
    """Return with what probability, at the least, a chain forgets its state: that a run of the rarer one ends."""
    known = [_rarer(each, edge) for each in beside.known]
    stable = end_of(sum(ends for ends, _ in known), sum(after for _, after in known), beside.declared_run)
    return min(stable, end_of(*_rarer(seen, edge), 1 / stable))


def _rarer(seen: Curve, edge: int) -> tuple[int, int]:
    """Return how many runs ended of what is rarer, values beyond the edge or those within, and after how many values.

    Plain numbers: this is asked a hundred times for each figure that is shown.
    """
    n, hits, runs, still_open = seen.n, seen.hits[edge], seen.runs[edge], seen.open[edge]
    return (runs - still_open, hits - still_open) if 2 * hits <= n else (runs, n - hits + still_open)


def _beyond(total: int, counted: Counter[int]) -> Sequence[int]:
    return tuple(map(total.__sub__, _sums(counted)))


def _sums(counted: Counter[int]) -> Iterator[int]:
    """Return the sum of the counts up to each edge, that one included; few edges have any."""
    counts = [0] * (_MOST + 1)
    for edge, count in counted.items():
        counts[edge] = count
    return accumulate(counts)


def _bucket(ms: float) -> int:
    """Return the first edge that a value does not exceed."""
    if ms <= _LEAST_MS:
        return 0
    return min(_MOST, math.ceil(_PER_DECADE * math.log10(ms / _LEAST_MS)))


def _ms(edge: int) -> float:
    return float(_LEAST_MS * 10 ** (edge / _PER_DECADE))
