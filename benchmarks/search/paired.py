"""Whether one search is worse than another at a budget: their medians, and what chance would make of equal ones. Pure.

Medians of a few noisy runs differ between equal searches, too: at each budget one of two equal ones has the worse
median in up to half of all comparisons. So the medians are counted as they are, and a sign test over the pairs of
equal seeds says beside it which differences chance does not explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import binomtest

LEVEL = 0.05
"""A budget counts as worse where equal searches would show so many worse pairs this seldom; one-sided, each budget by
itself: of equal searches up to one budget in twenty is called worse, none is excused because others were looked at."""
FEWEST = 20
"""Pairs below which nothing is said: the test would call hardly anything worse."""


class Paired(NamedTuple):
    """Runs of the same seed: in how many the first has the larger gap, in how many the smaller, and how likely as many
    larger ones were if either were as likely (the rest are ties).
    """

    worse: int
    better: int
    p_value: float

    @property
    def is_worse(self) -> bool:
        """True where chance does not explain how often the first was worse."""
        return self.p_value <= LEVEL


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Paired:
    """Return the exact one-sided sign test (Conover, "Practical Nonparametric Statistics", 1999, section 3.4) over runs
    of the same seeds, in the same order; infinite gaps are the largest.
    """
    pairs = list(zip(ours, theirs, strict=True))
    worse = sum(_exceeds(mine, other) for mine, other in pairs)
    better = sum(_exceeds(other, mine) for mine, other in pairs)
    if worse + better == 0:
        return Paired(0, 0, 1.0)
    return Paired(worse, better, float(binomtest(worse, worse + better, 0.5, alternative="greater").pvalue))


def _exceeds(left: float, right: float) -> bool:
    return left > right + 1e-9
