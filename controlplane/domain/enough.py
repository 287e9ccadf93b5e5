"""How many requests it takes to say that a percentile's limit is met. Pure."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def samples_needed(percentile: float, misses: int = 0, confidence: float = CONFIDENCE) -> int:
    """Return how many requests with so many misses show at `confidence` that a percentile's limit is met.

    The least n at which so few misses have a probability of at most 1 - confidence when the share of misses is just the
    allowed one (Clopper & Pearson 1934). 299 for P99 without a miss (Wilks 1941), 473 with one.
    """
    allowed = 1 - percentile / 100
    low, high = misses, max(64, 2 * misses)
    while at_most(misses, high, allowed) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at_most(misses, middle, allowed) <= 1 - confidence else (middle, high)
    return high


def at_most(misses: int, n: int, ratio: float) -> float:
    """Return the probability of at most so many misses in n independent requests, each with this ratio in (0, 1)."""
    if misses < 0:
        return 0.0
    logs = [
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(ratio)
        + (n - k) * math.log1p(-ratio)
        for k in range(min(misses, n) + 1)
    ]
    largest = max(logs)
    return math.exp(largest) * math.fsum(math.exp(each - largest) for each in logs)
