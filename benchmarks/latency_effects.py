"""How often an interval on a percentile's difference is wrong, and how wide: `python -m benchmarks.latency_effects`.

A canary and a stable draw latencies from one distribution, and are looked at again and again as requests come: a run is
wrong when at any look any of the six intervals (P50, P95, P99 of TTFT and of TPOT) leaves out the truth, no difference.
Then the canary's tail is made longer, so that its P99 is 30 % more, and counted is how many requests show it.
`--seed` was chosen by nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.canary_errors.queueing import queue_waits_ms
from controlplane.domain.rollouts.analysis import LatencyEffect
from controlplane.domain.rollouts.effects import Curves, Latencies, effects
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.rollouts.spread import Spread
from controlplane.domain.slo import LatencyMetric

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

_SIGMA = 0.6
_SLOW_SHARE = 0.03
_SLOW_TIMES = 10.0
_BEFORE = 2000  # stable's requests in the ten minutes before
_LOOKS = 25
_FIRST_LOOK = 20
_NONE: Curves = {metric: Spread().curve() for metric in (LatencyMetric.TTFT, LatencyMetric.TPOT)}


def independent(rng: np.random.Generator, n: int) -> Floats:
    return rng.lognormal(5, _SIGMA, n)


def bursty(mean_run: float) -> Draw:
    """Three requests in a hundred are ten times as slow, in runs of so many on average."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        return independent(rng, n) * np.where(_in_runs(rng, n, mean_run), _SLOW_TIMES, 1.0)

    return draw


def _in_runs(rng: np.random.Generator, n: int, mean_run: float) -> npt.NDArray[np.bool_]:
    end = 1 / mean_run
    start = end * _SLOW_SHARE / (1 - _SLOW_SHARE)
    slow = np.empty(n, dtype=np.bool_)
    at, is_slow = 0, bool(rng.random() < _SLOW_SHARE)
    while at < n:
        length = int(rng.geometric(end if is_slow else start))
        slow[at : at + length] = is_slow
        at, is_slow = at + length, not is_slow
    return slow


SCENARIOS: dict[str, Draw] = {
    "independent": independent,
    "slow in runs of 5": bursty(5),
    "slow in runs of 20": bursty(20),
    "a twin's queue": queue_waits_ms,
}


class Found(NamedTuple):
    """What came of one scenario. Requests are the canary's."""

    scenario: str
    runs: int
    wrong: float  # share of runs in which any interval left the truth at any look
    p99_width: float | None  # median of (high − low) / P99 of TTFT at the last look; None: open in most runs
    p99_longer_by_30_percent: dict[str, float | None]  # share of runs that show it, and the median of requests then


def measure(name: str, *, runs: int, requests: int, seed: int) -> Found:
    rng = np.random.default_rng(seed)
    wrong, widths, shown = 0, [], []
    for _ in range(runs):
        looks = list(_looks(SCENARIOS[name], rng, requests, longer=1.0))
        wrong += any(_excludes_zero(each) for _, found in looks for each in found)
        widths.append(_width(looks[-1][1]))
        longer = _looks(SCENARIOS[name], rng, requests, longer=1.3)
        shown.append(next((n for n, found in longer if (_p99(found).low_ms or 0) > 0), None))
    known = [each for each in shown if each is not None]
    closed = [each for each in widths if each is not None]
    return Found(
        scenario=name,
        runs=runs,
        wrong=wrong / runs,
        p99_width=float(np.median(closed)) if 2 * len(closed) > runs else None,
        p99_longer_by_30_percent={
            "shown": len(known) / runs,
            "requests": float(np.median(known)) if known else None,
        },
    )


def _looks(
    draw: Draw, rng: np.random.Generator, requests: int, *, longer: float
) -> Iterator[tuple[int, tuple[LatencyEffect, ...]]]:
    """Stable has four requests for each of the canary's, as at 20 %."""
    before = _curves(*([_fed(Spread(), draw(rng, _BEFORE))] * 2))
    values = [[draw(rng, n) for n in (requests, 4 * requests)] for _ in (LatencyMetric.TTFT, LatencyMetric.TPOT)]
    for canary, _ in values:
        tail = canary > np.quantile(canary, 0.9)
        canary[tail] *= longer
    arms = [[Spread(), Spread()] for _ in values]
    done = 0
    for n in np.unique(np.geomspace(_FIRST_LOOK, requests, _LOOKS).astype(int)):
        for spreads, (canary, stable) in zip(arms, values, strict=True):
            _fed(spreads[0], canary[done:n])
            _fed(spreads[1], stable[4 * done : 4 * n])
        done = int(n)
        mine, theirs = (_curves(arms[0][side], arms[1][side]) for side in (0, 1))
        yield done, effects(Latencies(users=mine, replayed=_NONE, stable=theirs, before=before), RolloutOptions())


def _fed(spread: Spread, values: Floats) -> Spread:
    for each in values:
        spread.see("gw", float(each))
    return spread


def _curves(ttft: Spread, tpot: Spread) -> Curves:
    return {LatencyMetric.TTFT: ttft.curve(), LatencyMetric.TPOT: tpot.curve()}


def _excludes_zero(effect: LatencyEffect) -> bool:
    return (effect.low_ms or 0) > 0 or (effect.high_ms or 0) < 0


def _p99(found: tuple[LatencyEffect, ...]) -> LatencyEffect:
    return next(each for each in found if each.metric is LatencyMetric.TTFT and each.percentile == 99)


def _width(found: tuple[LatencyEffect, ...]) -> float | None:
    told = _p99(found)
    if told.low_ms is None or told.high_ms is None:
        return None
    return (told.high_ms - told.low_ms) / told.stable_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--requests", type=int, default=3000, help="of the canary, at the last look")
    parser.add_argument("--seed", type=int, default=41)
    asked = parser.parse_args()
    for name in SCENARIOS:
        found = measure(name, runs=asked.runs, requests=asked.requests, seed=asked.seed)
        print(json.dumps(found._asdict()), flush=True)


if __name__ == "__main__":
    main()
