"""Percentiles and ratios with 95 % intervals, from pooled request records."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv, ndtri, stdtrit  # scipy.stats has them too, and takes 0.4 s to import

from controlplane.domain.enough import samples_needed
from controlplane.domain.report import Distribution, Percentile

Floats = npt.NDArray[np.float64]

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
CONFIDENCE = 0.95
_MOST_WIDENINGS = 5
_FEWEST_INDEPENDENT = 50
"""With fewer, their correlation cannot be estimated either: the interval is left open."""


def distribution(values: Floats, percentiles: tuple[float, ...] = PERCENTILES) -> Distribution:
    """Return count, mean and percentiles of the values that are not NaN, given in the order they were sent.

    The order matters: requests that wait in one queue are slow together, so n of them say less than n independent ones
    would, and the intervals are widened accordingly.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return Distribution(count=0)
    ordered = np.sort(known)
    found = [_widened(known, ordered, each) for each in percentiles]
    return Distribution(count=len(known), mean=float(known.mean()), percentiles=tuple(found))


def _widened(values: Floats, ordered: Floats, percentile: float) -> Percentile:
    """Widen the interval until it agrees with how correlated the values at its own lower end are.

    In a run that happens to hold one long queue the percentile lies deep within that queue, where few values are above
    it and look little correlated; the true percentile is further down.
    """
    effective = effective_size(values, float(np.percentile(ordered, percentile)))
    found = percentile_of(ordered, percentile, effective)
    for _ in range(_MOST_WIDENINGS):
        seen = effective_size(values, found.low)
        if seen >= effective * 0.99:
            break
        effective = seen
        found = percentile_of(ordered, percentile, effective)
    if effective < min(_FEWEST_INDEPENDENT, len(ordered)):
        return Percentile(percentile=percentile, value=found.value, low=float(ordered[0]), high=None)
    return found


def percentile_of(ordered: Floats, percentile: float, effective_n: float | None = None) -> Percentile:
    """Return one percentile of ascending values (linear between order statistics, as numpy and vLLM's bench have it).

    The interval runs between two order statistics, without any assumption on the latencies' distribution: rank r lies
    above the percentile with probability 1 − I_p(r, n − r + 1), solved for real r and interpolated between neighbours
    (David and Nagaraja, Order Statistics, section 7.1; Nyblom 1992). `effective_n` independent values stand for the n
    given. `high` is None while even the largest value seen cannot bound the percentile at 97.5 %.
    """
    n, p = len(ordered), percentile / 100
    effective = min(float(n), effective_n or n)
    tail = (1 - CONFIDENCE) / 2
    low, high = _rank(effective, p, 1 - tail), _rank(effective, p, tail)
    stretch = n / effective
    return Percentile(
        percentile=percentile,
        value=float(np.percentile(ordered, percentile)),
        low=_at_rank(ordered, low * stretch),
        high=_at_rank(ordered, high * stretch) if high <= effective else None,
    )


def effective_size(values: Floats, threshold: float) -> float:
    """Return how many independent values tell as much about how many lie above `threshold` as these correlated ones.

    n / τ, where τ = 1 + 2 Σ ρ_k is that of the indicator "above the threshold", summed up to Geyer's initial positive
    sequence ("Practical Markov chain Monte Carlo", Statistical Science 1992). Long series are summed into blocks first.
    """
    above = (values > threshold).astype(np.float64)
    n, variance = len(above), float(above.var())
    if variance == 0 or n < 20:
        return float(n)
    block = -(-n // _LONGEST_SERIES)
    sums = above[: n // block * block].reshape(-1, block).sum(axis=1)
    inflation, lags_share = _inflation(sums)
    tau = max(1.0, inflation * float(sums.var()) / (block * variance))
    share = float(above.mean())
    return n / (tau * _doubt(tau, lags_share, n * min(share, 1 - share)))


_LONGEST_SERIES = 1 << 17


def _inflation(series: Floats) -> tuple[float, float]:
    """Return τ and the share of the series' lags that its sum ran over."""
    centred = series - series.mean()
    size = 1 << (2 * len(series) - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, size)) ** 2
    covariance = np.fft.irfft(spectrum, size)[: len(series)]
    if covariance[0] <= 0:
        return 1.0, 0.0
    correlation = covariance / covariance[0]
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: negative[0] if len(negative) else len(pairs)])
    return max(1.0, 2 * float(kept.sum()) - 1), 2 * len(kept) / len(series)


def _doubt(tau: float, lags_share: float, rarer: float) -> float:
    """Return by how much to raise an estimated τ, because it is only an estimate.

    Only what exceeds 1 is in doubt: without correlation the variance of a count is known. Two things blur the excess.
    The sum over lags is known as well as a variance with n / (2 · lags) degrees of freedom, and its autocorrelations
    come out too small by about τ/n each (Marriott and Pope 1954). And values above a high percentile come in few
    clusters, one per long queue: τ = E[S²] / E[S] of their sizes S, so with sizes spread exponentially (a busy period's
    tail) `rarer` values make 2 · rarer / τ clusters, whose sum of squares has a relative variance of 6 per cluster.
    Student's quantile with the degrees of freedom of both together replaces the normal's.
    """
    excess, share = (tau - 1) / tau, min(lags_share, 0.25)
    relative_variance = excess**2 * (4 * share + 3 * tau / rarer)
    freedom = max(1.0, 2 / max(relative_variance, 1e-9))
    return float((stdtrit(freedom, 0.975) / ndtri(0.975)) ** 2) / (1 - 2 * share * excess)


@lru_cache(maxsize=4096)  # most series of a report are of as many values, and of as many independent ones
def _rank(n: float, p: float, probability: float) -> float:
    """Return the real rank r in (0, n + 1) with I_p(r, n − r + 1) = probability: falling in r."""
    low, high = 1e-9, n + 1 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        if betainc(middle, n - middle + 1, p) > probability:
            low = middle
        else:
            high = middle
    return low


def _at_rank(ordered: Floats, rank: float) -> float:
    """Interpolate between the order statistics, ranks from 1."""
    return float(np.interp(rank - 1, np.arange(len(ordered)), ordered))


def missing_for_claim(percentile: float, count: int) -> str | None:
    """Say why no percentile can be claimed with so few requests; None when it can."""
    needed = samples_needed(percentile)
    if count >= needed:
        return None
    return f"P{percentile:g} needs at least {needed} requests for a 95 % bound; have {count}"


def ratio_interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson 1934) interval of a ratio for a sample size fixed beforehand."""
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = float(betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0
    return low, high
