"""False alarms of stationary traffic, and how soon doubled prompts are found, in simulated time.

    python -m benchmarks.drift --months 12 --json docs/results/drift.json

Lognormal lengths (cv 1.2) in sessions of three requests on average that share most of their length, so that requests
are not independent; a batch as the product makes it (60 s and 100 requests at least). Without drift a month of batches,
months times; with it, prompts twice as long from some batch on, 200 times, seconds of traffic until found.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.operations.drift import BATCH_REQUESTS, BATCH_S, Length, Watch, added, judged

RATES_RPS = (0.2, 0.5, 2.0)
MONTH_S = 30 * 86_400.0
CV, SESSION, SHARED = 1.2, 3.0, 0.8
_MEAN = {Length.PROMPT: 1000.0, Length.OUTPUT: 200.0}
_LAST = 60 * 24  # batches watched for a doubling at most
Ints = NDArray[np.int64]


def lengths(count: int, mean: float, chance: np.random.Generator) -> Ints:
    """Return lognormal lengths, those of one session alike."""
    sigma = float(np.sqrt(np.log1p(CV**2)))
    sessions = np.cumsum(chance.random(count) < 1 / SESSION)
    common = chance.normal(size=int(sessions[-1]) + 1)[sessions]
    own = chance.normal(size=count)
    logs = np.log(mean) - sigma**2 / 2 + sigma * (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own)
    found: Ints = np.maximum(1, np.exp(logs)).astype(np.int64)
    return found


def batch(rate_rps: float) -> tuple[float, int]:
    """Return seconds and requests of a batch at a steady rate."""
    seconds = max(BATCH_S, BATCH_REQUESTS / rate_rps)
    return seconds, int(rate_rps * seconds)


def false_alarms(rate_rps: float, *, seconds: float, seed: int) -> int:
    """Return the alarms of so much stationary traffic; after each the watch begins anew, without a cool-down."""
    chance, watch, found = np.random.default_rng(seed), Watch(), 0
    each_s, count = batch(rate_rps)
    for _ in range(int(seconds / each_s)):
        watch, drifts = _step(watch, count, _MEAN, chance)
        if drifts:
            watch, found = Watch(), found + 1
    return found


def found_after_s(rate_rps: float, *, times: float, seed: int) -> float | None:
    """Return the seconds of traffic until prompts that are `times` as long are found; None: not within a day."""
    chance, watch = np.random.default_rng(seed), Watch()
    each_s, count = batch(rate_rps)
    for _ in range(20):
        watch, _ = _step(watch, count, _MEAN, chance)
    longer = {**_MEAN, Length.PROMPT: times * _MEAN[Length.PROMPT]}
    for number in range(1, _LAST):
        watch, drifts = _step(watch, count, longer, chance)
        if drifts:
            return number * each_s
    return None


def _step(watch: Watch, count: int, means: dict[Length, float], chance: np.random.Generator) -> tuple[Watch, bool]:
    drawn = {each: lengths(count, means[each], chance).tolist() for each in Length}
    watch, drifts = judged(added(watch, drawn), _MEAN)
    return watch, bool(drifts)


def main() -> None:
    """Run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES_RPS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for rate in asked.rates:
        alarms = sum(false_alarms(rate, seconds=MONTH_S, seed=seed) for seed in range(asked.months))
        took = [found_after_s(rate, times=2.0, seed=seed) for seed in range(200)]
        known = sorted(each for each in took if each is not None)
        rows.append(
            {
                "rate_rps": rate,
                "months": asked.months,
                "false_alarms": alarms,
                "doubling_found": len(known),
                "doubling_median_s": known[len(known) // 2] if known else None,
                "doubling_slowest_s": known[-1] if known else None,
            }
        )
        print(rows[-1])
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
