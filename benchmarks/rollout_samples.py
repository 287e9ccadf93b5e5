"""How many canary requests a rollout step needs to be decided: `python -m benchmarks.rollout_samples`.

Deterministic: the counts are the expected ones, looked at each time the canary has 2 % more requests.
"""

from __future__ import annotations

from controlplane.domain.rollouts.analysis import Counts
from controlplane.domain.rollouts.comparing import Control, Evidence, compare
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet

SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=500),), target_qps=1)
WEIGHTS = (5, 20, 50)
MARGINS = (0.02, 0.05, 0.1, 0.2)
GIVEN_UP = 200_000
BEFORE = 1000  # stable's requests in the ten minutes before the step


def expected(requests: int, miss_ratio: float) -> Counts:
    return Counts(requests=requests, slo_misses=round(requests * miss_ratio), errors=0)


def requests_needed(canary: float, stable: float, *, weight: int, margin: float) -> tuple[str, int] | None:
    """Return the verdict on the miss ratios and the canary requests it takes; None when it stays open."""
    options, seen = RolloutOptions(miss_ratio_margin=margin), 1
    while seen < GIVEN_UP:
        control = expected(seen * (100 - weight) // weight, stable)
        before = expected(BEFORE, stable)
        evidence = Evidence(canary=expected(seen, canary), stable=control, control=Control.CONCURRENT, before=before)
        misses, *_ = compare(evidence, SLOS, options)
        if misses.low > margin:
            return "fail", seen
        if misses.high <= margin:
            return "pass", seen
        seen += max(1, seen // 50)
    return None


def row(canary: float, stable: float, weight: int) -> str:
    cells = [requests_needed(canary, stable, weight=weight, margin=margin) for margin in MARGINS]
    texts = ["open" if cell is None else f"{cell[0]} {cell[1]}" for cell in cells]
    return f"| {weight} % | {stable:.0%} | {canary:.0%} | " + " | ".join(texts) + " |"


def main() -> None:
    print("| weight | stable misses | canary misses | " + " | ".join(f"margin {margin}" for margin in MARGINS) + " |")
    print("|" + "---|" * (3 + len(MARGINS)))
    for weight in WEIGHTS:
        for canary, stable in ((0.0, 0.0), (0.01, 0.01), (0.05, 0.05), (0.3, 0.01), (1.0, 0.01)):
            print(row(canary, stable, weight))


if __name__ == "__main__":
    main()
