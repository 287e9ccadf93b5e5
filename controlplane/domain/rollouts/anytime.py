"""Anytime-valid bounds on miss ratios: look as often as you like, stop when you like, the stated confidence holds.

The usual interval for a ratio is right once, at a sample size fixed beforehand; looked at after every request it is
wrong far more often than it says. These bounds invert Robbins' beta-binomial mixture martingale

    M_n(p) = ∫ q^s (1−q)^(n−s) dBeta(q; a, b) / (p^s (1−p)^(n−s)),     s misses in n

which has mean 1 at the true ratio p, so by Ville's inequality it ever exceeds 1/alpha with probability at most alpha.
The ratios not yet excluded form an interval that covers p at *all* n at once (Robbins 1970; Howard, Ramdas, McAuliffe,
Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021, section 3).
Assumes requests that miss independently; queueing makes misses come in clusters, which widens the truth. A sum of
values from 0 to 1 may stand for the misses: as exp is convex, M_n is then a supermartingale at their true mean.
"""

from __future__ import annotations

import math

_PRIOR_A = 0.5  # Jeffreys: keen on ratios near 0 and 1, where miss ratios of tail limits are
_PRIOR_B = 0.5
_STEPS = 60  # halvings of an interval within [0, 1]: far below the precision of a double


def miss_ratio_bounds(misses: float, n: int, alpha: float) -> tuple[float, float]:
    """Return (low, high) that cover the true miss ratio at every n with probability ≥ 1 − alpha.

    Raises ValueError for counts that cannot be or an alpha outside (0, 1).
    """
    _check(misses, n, alpha)
    budget = -math.log(alpha)
    return _leftmost(misses, n, budget), _rightmost(misses, n, budget)


def difference_bounds(misses_a: float, n_a: int, misses_b: float, n_b: int, alpha: float) -> tuple[float, float]:
    """Return (low, high) that cover `ratio a − ratio b` at every (n_a, n_b) with probability ≥ 1 − alpha.

    The product of the two samples' martingales is one martingale, so the pairs (p_a, p_b) with
    M_a(p_a) · M_b(p_b) < 1/alpha are a joint confidence set; the bounds are its extreme differences.
    Tighter than giving each sample half of alpha while their ratios are about as uncertain as each other (up to a
    fifth when equally so), up to a sixth wider when one is known far better. Raises ValueError as `miss_ratio_bounds`.
    """
    _check(misses_a, n_a, alpha)
    _check(misses_b, n_b, alpha)
    high = _largest_difference(misses_a, n_a, misses_b, n_b, -math.log(alpha))
    low = -_largest_difference(misses_b, n_b, misses_a, n_a, -math.log(alpha))
    return low, high


def differs(misses_a: float, n_a: int, misses_b: float, n_b: int, alpha: float) -> bool:
    """Say whether `difference_bounds` leave zero out, at a thousandth of the price: for who looks at every request.

    The likeliest common ratio is the pooled one. Raises ValueError as `miss_ratio_bounds`.
    """
    _check(misses_a, n_a, alpha)
    _check(misses_b, n_b, alpha)
    if not n_a or not n_b:
        return False
    pooled = (misses_a + misses_b) / (n_a + n_b)
    found = _log_martingale(pooled, misses_a, n_a) + _log_martingale(pooled, misses_b, n_b)
    return found >= -math.log(alpha)


def _check(misses: float, n: int, alpha: float) -> None:
    if not 0 <= misses <= n:
        raise ValueError(f"{misses} misses in {n} requests cannot be")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, must lie between 0 and 1")


def _log_martingale(p: float, misses: float, n: int) -> float:
    """Convex in p, smallest at misses / n; infinite where p excludes what was seen."""
    hits = n - misses
    mixture = _log_beta(_PRIOR_A + misses, _PRIOR_B + hits) - _log_beta(_PRIOR_A, _PRIOR_B)
    return mixture - _times_log(misses, p) - _times_log(hits, 1 - p)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: float, p: float) -> float:
    if count == 0:
        return 0.0
    return count * math.log(p) if p > 0 else -math.inf


def _leftmost(misses: float, n: int, budget: float) -> float:
    if misses == 0:
        return 0.0
    outside, inside = 0.0, misses / n
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        if _log_martingale(middle, misses, n) < budget:
            inside = middle
        else:
            outside = middle
    return outside


def _rightmost(misses: float, n: int, budget: float) -> float:
    return 1 - _leftmost(n - misses, n, budget)


def _largest_difference(misses_a: float, n_a: int, misses_b: float, n_b: int, budget: float) -> float:
    """Bisect on d: the least joint log martingale over pairs with p_a − p_b = d grows with d right of the estimate."""
    estimate = (misses_a / n_a if n_a else 0.5) - (misses_b / n_b if n_b else 0.5)
    inside, outside = estimate, 1.0
    for _ in range(_STEPS // 2):
        middle = (inside + outside) / 2
        if _least_at_difference(middle, misses_a, n_a, misses_b, n_b) < budget:
            inside = middle
        else:
            outside = middle
    return outside


def _least_at_difference(d: float, misses_a: float, n_a: int, misses_b: float, n_b: int) -> float:
    """Minimise the convex sum over p_b, p_a = p_b + d, by bisection on the sign of its slope."""
    left, right = max(0.0, -d), min(1.0, 1.0 - d)
    for _ in range(_STEPS // 2):
        middle = (left + right) / 2
        if _slope(middle + d, misses_a, n_a) + _slope(middle, misses_b, n_b) < 0:
            left = middle
        else:
            right = middle
    at = (left + right) / 2
    return _log_martingale(min(1.0, max(0.0, at + d)), misses_a, n_a) + _log_martingale(at, misses_b, n_b)


def _slope(p: float, misses: float, n: int) -> float:
    tiny = 1e-300
    return (n - misses) / max(1 - p, tiny) - misses / max(p, tiny)
