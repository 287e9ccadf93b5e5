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
    return _log_mixture(misses, n) - _times_log(misses, p) - _times_log(n - misses, 1 - p)


def _log_mixture(misses: float, n: int) -> float:
    """What the martingale has of the counts alone: who tries many p needs it once."""
    return _log_beta(_PRIOR_A + misses, _PRIOR_B + (n - misses)) - _LOG_PRIOR


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: float, p: float) -> float:
    if count == 0:
        return 0.0
    return count * math.log(p) if p > 0 else -math.inf


_LOG_PRIOR = _log_beta(_PRIOR_A, _PRIOR_B)


def _leftmost(misses: float, n: int, budget: float) -> float:
    if misses == 0:
        return 0.0
    mixture, hits, log = _log_mixture(misses, n), n - misses, math.log
    outside, inside = 0.0, misses / n
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        if 0.0 < middle < 1.0:  # as `_log_martingale`, without its calls: a judge comes here at every look
            found = mixture - misses * log(middle) - hits * log(1 - middle)
        else:
            found = _log_martingale(middle, misses, n)
        if found < budget:
            inside = middle
        else:
            outside = middle
    return outside


def _rightmost(misses: float, n: int, budget: float) -> float:
    return 1 - _leftmost(n - misses, n, budget)


def _largest_difference(misses_a: float, n_a: int, misses_b: float, n_b: int, budget: float) -> float:
    """Bisect on d: the least joint log martingale over pairs with p_a − p_b = d grows with d right of the estimate."""
    estimate = (misses_a / n_a if n_a else 0.5) - (misses_b / n_b if n_b else 0.5)
    mixture_a, mixture_b = _log_mixture(misses_a, n_a), _log_mixture(misses_b, n_b)
    hits_a, hits_b = n_a - misses_a, n_b - misses_b
    inside, outside = estimate, 1.0
    for _ in range(_STEPS // 2):
        middle = (inside + outside) / 2
        at = _likeliest_at_difference(middle, misses_a, hits_a, misses_b, hits_b)
        at_a = min(1.0, max(0.0, at + middle))
        least = (mixture_a - _times_log(misses_a, at_a) - _times_log(hits_a, 1 - at_a)) + (
            mixture_b - _times_log(misses_b, at) - _times_log(hits_b, 1 - at)
        )
        if least < budget:
            inside = middle
        else:
            outside = middle
    return outside


def _likeliest_at_difference(d: float, misses_a: float, hits_a: float, misses_b: float, hits_b: float) -> float:
    """Return the p_b, p_a = p_b + d, where the convex sum is least, by bisection on the sign of its slope."""
    tiny = 1e-300
    left, right = max(0.0, -d), min(1.0, 1.0 - d)
    for _ in range(_STEPS // 2):
        b = (left + right) / 2
        a = b + d
        not_a, not_b = 1 - a, 1 - b
        slope_a = hits_a / (not_a if not_a > tiny else tiny) - misses_a / (a if a > tiny else tiny)
        slope_b = hits_b / (not_b if not_b > tiny else tiny) - misses_b / (b if b > tiny else tiny)
        if slope_a + slope_b < 0:
            left = b
        else:
            right = b
    return (left + right) / 2
