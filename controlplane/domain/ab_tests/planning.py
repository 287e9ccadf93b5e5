"""How many users an answer takes, said before the first request. Pure.

With n users an arm, the bounds of an effect as large as the minimum one exclude zero with probability
Φ((effect − half width(n)) / standard error(n)): the least n at which that is the power asked for. A test that is looked
at all the way finds the effect sooner on most days, so the power is at least the one stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from controlplane.domain.ab_tests.ab_test import AbOptions
from controlplane.domain.ab_tests.bounds import LEAST_USERS, half_width
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.errors import InvalidInput
from controlplane.domain.rollouts.anytime import difference_bounds

MOST_USERS = 10_000_000
"""Of an arm: beyond it no test is planned."""


def effect_of(metric: AbMetric, percent: float) -> float:
    """Return the minimum effect as bounds have it: a difference of shares, or of logarithms."""
    return math.log1p(percent / 100) if metric.is_relative else percent / 100


def users_needed(options: AbOptions, *, baseline: float, spread: float, alpha: float, share: float = 0.5) -> int:
    """Return the users that the smallest arm needs.

    `baseline` and `spread` are the control's mean and the standard deviation of its users; `share` is the smallest
    arm's part of the two arms that are compared. Raises InvalidInput when ten million users would not do.
    """
    effect = effect_of(options.metric, options.minimum_effect_percent)
    enough = _enough(options, baseline, spread, alpha, share, effect)
    many = LEAST_USERS
    while not enough(many):
        if many == MOST_USERS:
            raise InvalidInput(
                f"{options.metric} cannot be told apart by {options.minimum_effect_percent:g}",
                why=f"more than {MOST_USERS:,} users of an arm would be needed",
                allowed="a larger minimum effect, less power or confidence",
            )
        many = min(2 * many, MOST_USERS)
    few = many // 2 if many > LEAST_USERS else LEAST_USERS
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle + 1, many)
    return many


def _enough(
    options: AbOptions, baseline: float, spread: float, alpha: float, share: float, effect: float
) -> Callable[[int], bool]:
    quantile = NormalDist().inv_cdf(options.power)

    def of_means(users: int) -> bool:
        others = users * (1 - share) / share
        error = spread * math.sqrt(1 / users + 1 / others)
        total = round(users + others)
        return effect - half_width(error, total, alpha, total) >= quantile * error

    def of_shares(users: int) -> bool:
        others = round(users * (1 - share) / share)
        there = baseline + effect if baseline + effect <= 1 else baseline - effect
        error = spread * math.sqrt(1 / users + 1 / others)
        low, high = difference_bounds(there * users, users, baseline * others, others, alpha)
        return (low if there > baseline else -high) >= quantile * error

    return of_means if options.metric.is_relative else of_shares
