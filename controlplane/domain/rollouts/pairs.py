"""The canary's ratio of hits minus stable's, bounded by both arms' martingales together. Pure.

The product of the two arms' martingales (`bursts`) is a martingale at the true pair of chains, and so is any mean of it
and of either alone. The pairs of ratios at which that mean is below 1/alpha cover the truth at every look, and bounds
are the extreme differences among them. The product is sharp where both arms are about as uncertain: it adds the squares
of their widths (cf. Turner, Ly, Grünwald, "Generic e-variables for exact sequential k-sample tests"). One arm alone
is sharp where the other is known well, whose own price, half a logarithm of its many requests, would be in the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from controlplane.domain.rollouts.bursts import Chain, Series

_STAKES = {True: (0.75, 0.2, 0.05), False: (0.35, 0.6, 0.05)}
"""What is staked on both arms at once, and on each alone: where stable goes on as expected, both cost little."""
_SECTIONS = 12
_NARROW = 1e-9
_PRECISION = 1e-4  # a hundredth of a point
_GOLDEN = (math.sqrt(5) - 1) / 2


class Side(NamedTuple):
    """One side of a difference: what was seen, and how seldom its runs may end at the least."""

    seen: Series
    least_end: float
    expected: Series | None = None


class Difference:
    """Everything that can be said of `mine − others`."""

    def __init__(self, mine: Side, others: Side) -> None:
        self._mine, self._others = (Chain(each.seen, each.expected) for each in (mine, others))
        self._stakes = tuple(math.log(each) for each in _STAKES[others.expected is not None])
        self._floors = mine.least_end, others.least_end
        self._estimates = (self._mine.estimate(mine.least_end), self._others.estimate(others.least_end))

    @property
    def estimate(self) -> float:
        """The likeliest difference among such chains."""
        return self._estimates[0] - self._estimates[1]

    def explained(self, alpha: float) -> bool:
        """Say whether any two such chains explain what was seen: runs may be longer than they can be."""
        return self.least_at(self.estimate) < -math.log(alpha)

    def above(self, difference: float, alpha: float) -> bool:
        """Say whether the difference is certainly larger than this one."""
        return self.estimate > difference and self.least_at(difference) >= -math.log(alpha)

    def least_at(self, difference: float) -> float:
        """Return the least joint log martingale among pairs of chains whose ratios differ by so much.

        One of the two falls and the other grows between the ratio seen of stable and the one that the canary's would
        make of it, so the least lies between them.
        """
        highest = [1 / (1 + floor) for floor in self._floors]  # of chains whose runs end so seldom at the least
        inside = max(0.0, -difference), min(highest[1], highest[0] - difference)
        if inside[0] > inside[1]:
            return math.inf
        ends = sorted(
            min(max(each, inside[0]), inside[1]) for each in (self._estimates[0] - difference, self._estimates[1])
        )

        both, one, other = self._stakes

        def at(ratio: float) -> float:
            mine = self._mine.least_at(min(1.0, max(0.0, ratio + difference)), self._floors[0])
            others = self._others.least_at(ratio, self._floors[1])
            return _log_sum(both + mine + others, one + mine, other + others)

        return _least(at, ends[0], ends[1])

    def low(self, alpha: float) -> float:
        return self._edge(alpha, -1.0)

    def high(self, alpha: float) -> float:
        return self._edge(alpha, 1.0)

    def _edge(self, alpha: float, furthest: float) -> float:
        """Go from the estimate to where the martingale reaches the budget: about a parabola, whose root is a line.

        Where a line does not halve what is open, the middle does.
        """
        budget, inside, outside = -math.log(alpha), self.estimate, furthest
        bottom = min(0.0, self.least_at(inside))
        target, low, high = math.sqrt(budget - bottom), 0.0, math.inf
        width = math.inf
        while abs(outside - inside) > _PRECISION:
            halved, width = abs(outside - inside) < width / 2, abs(outside - inside)
            at = _between(inside, outside, low, high, target) if halved else (inside + outside) / 2
            value = math.sqrt(max(0.0, self.least_at(at) - bottom))
            if value < target:
                inside, low = at, value
            else:
                outside, high = at, value
        return outside


def _log_sum(*parts: float) -> float:
    largest = max(parts)
    return largest if math.isinf(largest) else largest + math.log(sum(math.exp(each - largest) for each in parts))


def _between(inside: float, outside: float, low: float, high: float, target: float) -> float:
    """Where the line meets the target, a little beyond it so that both ends come near; the middle without a line."""
    share = 0.5 if math.isinf(high) or high <= low else (target - low) / (high - low)
    nudge = math.copysign(_PRECISION / 3, outside - inside)
    found = inside + share * (outside - inside) + nudge
    return found if min(inside, outside) < found < max(inside, outside) else (inside + outside) / 2


def _least(at: Callable[[float], float], left: float, right: float) -> float:
    """Return the least value by golden sections, its ends included."""
    found = min(at(left), at(right))
    if right - left < _NARROW:
        return found
    low, high = left, right
    inner = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    seen = at(inner[0]), at(inner[1])
    for _ in range(_SECTIONS):
        if seen[0] < seen[1]:
            high, inner = inner[1], (inner[1] - _GOLDEN * (inner[1] - low), inner[0])
            seen = at(inner[0]), seen[0]
        else:
            low, inner = inner[0], (inner[1], inner[0] + _GOLDEN * (high - inner[0]))
            seen = seen[1], at(inner[1])
    return min(found, *seen)
