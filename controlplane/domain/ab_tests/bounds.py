"""Bounds on the difference of two arms that hold at every look. Pure.

Shares (and scores from 0 to 1) go through the canary's own machinery, `rollouts.anytime`: its martingale for coins is a
supermartingale for anything within [0, 1] of the same mean, as exp is convex (sub-Bernoulli: Howard, Ramdas, McAuliffe,
Sekhon 2021), so the bounds are exact, if wide.

Means without a bound (logarithms of latencies and lengths) have the asymptotic confidence sequence of Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas ("Time-uniform central limit theory and asymptotic confidence sequences", Annals of
Statistics 2024, theorem 2.2): around the estimate after t users

    σ · sqrt( 2 (tρ² + 1) / (t²ρ²) · log( sqrt(tρ² + 1) / alpha ) )

whose ρ makes it narrowest at the number of users planned. It holds at every look once there are enough users for their
means to be about normal; before `LEAST_USERS` nothing is said.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from controlplane.domain.ab_tests.means import Means
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.rollouts.anytime import difference_bounds, differs

LEAST_USERS = 100
"""Users of each arm before anything is said of a mean."""


class Bounds(NamedTuple):
    """Challenger less control: shares as shares, the others as differences of logarithms."""

    estimate: float
    low: float
    high: float


def bounds(metric: AbMetric, control: Means, challenger: Means, *, alpha: float, planned: int) -> Bounds | None:
    """Return bounds that hold at every look with probability 1 − alpha; None while too little is known.

    `planned`: users of both arms together that the test was planned for.
    """
    if not control.users or not challenger.users:
        return None
    estimate = challenger.mean - control.mean
    if not metric.is_relative:
        low, high = difference_bounds(challenger.share, challenger.users, control.share, control.users, alpha)
        return Bounds(estimate, low, high)
    if min(control.users, challenger.users) < LEAST_USERS:
        return None
    half = half_width(standard_error(control, challenger), control.users + challenger.users, alpha, planned)
    return Bounds(estimate, estimate - half, estimate + half)


def apart(metric: AbMetric, control: Means, challenger: Means, *, alpha: float, planned: int) -> bool:
    """Say whether `bounds` leave zero out, quickly."""
    if not metric.is_relative:
        return differs(challenger.share, challenger.users, control.share, control.users, alpha)
    found = bounds(metric, control, challenger, alpha=alpha, planned=planned)
    return found is not None and (found.low > 0 or found.high < 0)


def standard_error(control: Means, challenger: Means) -> float:
    """Return that of the difference of two means."""
    return math.sqrt(control.variance / control.users + challenger.variance / challenger.users)


def half_width(error: float, users: int, alpha: float, planned: int) -> float:
    """Return how far bounds on a mean lie from the estimate, given its standard error after so many users."""
    spread = users * _rho_squared(alpha, planned) + 1
    return error * math.sqrt(2 * spread / (spread - 1) * math.log(math.sqrt(spread) / alpha))


def _rho_squared(alpha: float, planned: int) -> float:
    """Narrowest at `planned` users (ibid., appendix B.2)."""
    budget = -2 * math.log(alpha)
    return (budget + math.log(budget + 1)) / max(1, planned)
