"""The latency buckets of the gateway's histograms, seconds: what it counts by, and what rules may ask about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.domain.slo import LatencyMetric

BUCKETS_S: Mapping[LatencyMetric, Sequence[float]] = {
    LatencyMetric.TTFT: (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60, 120),
    LatencyMetric.TPOT: (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1),
    LatencyMetric.E2E: (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600),
}


def bucket_within(metric: LatencyMetric, limit_ms: float) -> float | None:
    """Return the largest bucket that lies within a limit, seconds: what is above it may count as a miss too early.

    None when the limit is below every bucket.
    """
    return max((bound for bound in BUCKETS_S[metric] if bound * 1000 <= limit_ms), default=None)
