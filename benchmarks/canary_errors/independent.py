"""The bounds of `domain.rollouts.anytime` on many pairs of samples: is their difference certainly beyond a margin?"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from benchmarks.canary_errors.bounds import Array, Bools, Many

_PRIOR = 0.5
_HALVINGS = 25


def beyond_margin(mine: Many, others: Many, margin: float, alpha: float, *, above: bool) -> Bools:
    """Say where `difference_bounds` lie wholly above the margin, or wholly below it.

    The least joint log martingale over pairs of ratios that differ by the margin tells: the margin is outside the
    bounds where it reaches the budget, on the side on which the estimate is.
    """
    ratios = [part.hits / np.maximum(1, part.n) for part in (mine, others)]
    side = (ratios[0] - ratios[1] > margin) if above else (ratios[0] - ratios[1] < margin)
    left = np.zeros(np.broadcast_shapes(ratios[0].shape, ratios[1].shape))
    right = left + 1 - margin
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        falls = _slope(middle + margin, mine) + _slope(middle, others) < 0
        left, right = np.where(falls, middle, left), np.where(falls, right, middle)
    at = (left + right) / 2
    told = (mine.n > 0) & (others.n > 0)
    return np.asarray(
        side & told & (_log_martingale(at + margin, mine) + _log_martingale(at, others) >= -np.log(alpha))
    )


def _log_martingale(p: Array, seen: Many) -> Array:
    others = seen.n - seen.hits
    mixture = betaln(_PRIOR + seen.hits, _PRIOR + others) - betaln(_PRIOR, _PRIOR)
    return np.asarray(mixture - xlogy(seen.hits, p) - xlog1py(others, -p))


def _slope(p: Array, seen: Many) -> Array:
    tiny = 1e-300
    return np.asarray((seen.n - seen.hits) / np.maximum(1 - p, tiny) - seen.hits / np.maximum(p, tiny))
