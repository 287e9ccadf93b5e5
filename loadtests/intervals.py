"""Percentiles and ratios with 95 % intervals, from pooled request records."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from controlplane.domain.report import Distribution, Percentile

Floats = npt.NDArray[np.float64]

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
CONFIDENCE = 0.95


def distribution(values: Floats, percentiles: tuple[float, ...] = PERCENTILES) -> Distribution:
    """Return count, mean and percentiles of the values that are not NaN."""
    ordered = np.sort(values[~np.isnan(values)])
    if not len(ordered):
        return Distribution(count=0)
    return Distribution(
        count=len(ordered),
        mean=float(ordered.mean()),
        percentiles=tuple(percentile_of(ordered, each) for each in percentiles),
    )


def percentile_of(ordered: Floats, percentile: float) -> Percentile:
    """Return one percentile of ascending values (linear between order statistics, as numpy and vLLM's bench have it).

    The interval runs between two order statistics whose ranks the binomial distribution gives, without any assumption
    on the latencies' own (David and Nagaraja, Order Statistics, section 7.1). `high` is None while the largest value
    seen cannot bound the percentile from above at 97.5 %.
    """
    n, p = len(ordered), percentile / 100
    tail = (1 - CONFIDENCE) / 2
    low_rank = int(binom.ppf(tail, n, p))  # P(fewer than this many lie below the percentile) ≤ 2.5 %
    high_rank = int(binom.ppf(1 - tail, n, p)) + 1
    return Percentile(
        percentile=percentile,
        value=float(np.percentile(ordered, percentile)),
        low=float(ordered[max(0, low_rank - 1)]),
        high=float(ordered[high_rank - 1]) if high_rank <= n else None,
    )


def samples_needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return how many requests bound a percentile from above: the largest of n exceeds it with that confidence.

    p^n ≤ 1 − confidence: 299 for a P99 at 95 % (Wilks 1941, one-sided).
    """
    return math.ceil(math.log(1 - confidence) / math.log(percentile / 100))


def ratio_interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson 1934) interval of a ratio for a sample size fixed beforehand."""
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return low, high
