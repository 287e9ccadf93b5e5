"""How often the stated 95 % intervals hold the truth: `python -m benchmarks.interval_coverage [--runs N --seed S]`.

Latencies with known percentiles, independent and as queues make them. An interval without an upper end ("open") says
itself that it is wider; the table tells how many were. Prints the table of docs/load.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.stats import lognorm

from loadtests.measure.intervals import PERCENTILES, distribution

Floats = npt.NDArray[np.float64]
_SETTLE = 2000  # values before the first that counts


class Scenario(NamedTuple):
    """Latencies in a steady state. `draw` gives n of them in the order they were sent."""

    name: str
    draw: Callable[[np.random.Generator, int], Floats]
    truth: Callable[[float], float]  # of a percentile


class Coverage(NamedTuple):
    """Shares of the runs."""

    held: float
    left_open: float


def lognormal() -> Scenario:
    return Scenario("independent, lognormal", lambda rng, n: rng.lognormal(0, 1, n), _lognormal_percentile)


def autoregressive(step: float) -> Scenario:
    """Lognormal latencies whose logarithms follow an AR(1) process."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        noise = rng.normal(size=n + _SETTLE) * math.sqrt(1 - step**2)
        return np.exp(lfilter([1], [1, -step], noise)[_SETTLE:])

    return Scenario(f"lognormal, AR(1) {step:g}", draw, _lognormal_percentile)


def queued(load: float) -> Scenario:
    """Sojourn times of an M/M/1 queue: exponential with mean 1 / (1 - load), strongly correlated."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        between, services = rng.exponential(1 / load, n + _SETTLE), rng.exponential(1, n + _SETTLE)
        walk = np.concatenate(([0.0], np.cumsum(services[:-1] - between[1:])))
        sojourns: Floats = (walk - np.minimum.accumulate(walk) + services)[_SETTLE:]  # Lindley 1952
        return sojourns

    return Scenario(f"M/M/1 sojourn at load {load:g}", draw, lambda rank: -math.log(1 - rank / 100) / (1 - load))


def coverage(scenario: Scenario, requests: int, *, runs: int, seed: int) -> dict[float, Coverage]:
    """Return per percentile how many of the intervals hold the truth and how many are open above."""
    rng = np.random.default_rng(seed)
    held, left_open = dict.fromkeys(PERCENTILES, 0), dict.fromkeys(PERCENTILES, 0)
    for _ in range(runs):
        for found in distribution(scenario.draw(rng, requests)).percentiles:
            true = scenario.truth(found.percentile)
            held[found.percentile] += found.low <= true and (found.high is None or true <= found.high)
            left_open[found.percentile] += found.high is None
    return {rank: Coverage(held[rank] / runs, left_open[rank] / runs) for rank in PERCENTILES}


def _lognormal_percentile(rank: float) -> float:
    return float(lognorm.ppf(rank / 100, 1))


TABLE = (
    (lognormal(), 100),
    (lognormal(), 300),
    (lognormal(), 1000),
    (lognormal(), 5000),
    (autoregressive(0.8), 1000),
    (autoregressive(0.8), 3000),
    (queued(0.5), 1000),
    (queued(0.7), 300),
    (queued(0.7), 1000),
    (queued(0.7), 3000),
    (queued(0.7), 10_000),
    (queued(0.9), 10_000),
    (queued(0.9), 30_000),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    print("| latencies | requests | " + " | ".join(f"P{rank:g}" for rank in PERCENTILES) + " |")
    print("|---" * (2 + len(PERCENTILES)) + "|")
    for scenario, requests in TABLE:
        found = coverage(scenario, requests, runs=options.runs, seed=options.seed)
        print(f"| {scenario.name} | {requests} | " + " | ".join(_cell(found[rank]) for rank in PERCENTILES) + " |")


def _cell(found: Coverage) -> str:
    left_open = f" ({100 * found.left_open:.0f} % open)" if found.left_open >= 0.005 else ""
    return f"{100 * found.held:.1f} %{left_open}"


if __name__ == "__main__":
    main()
