"""Coverage of the stated 95 % intervals, by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import lognorm

from loadtests.intervals import distribution, missing_for_claim, percentile_of, ratio_interval, samples_needed

Floats = npt.NDArray[np.float64]
RUNS = 500
NOISE = (0.95 * 0.05 / RUNS) ** 0.5  # one standard error of a simulated coverage


def independent(rng: np.random.Generator, n: int) -> Floats:
    return rng.lognormal(0, 1, n)


def queued(rng: np.random.Generator, n: int, load: float = 0.7) -> Floats:
    """Sojourn times of an M/M/1 queue in steady state: exponential with mean 1 / (1 − load), strongly correlated."""
    arrivals, services = rng.exponential(1 / load, n), rng.exponential(1, n)
    times = np.empty(n)
    times[0] = rng.exponential(1 / (1 - load))
    for i in range(1, n):
        times[i] = max(0.0, times[i - 1] - arrivals[i]) + services[i]
    return times


def coverage(
    draw: Callable[[np.random.Generator, int], Floats], n: int, truth: dict[float, float]
) -> dict[float, tuple[float, float]]:
    """Return per percentile the share of runs whose interval holds the truth, and the share left open above."""
    rng = np.random.default_rng(5)
    held, left_open = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    for _ in range(RUNS):
        for found in distribution(draw(rng, n)).percentiles:
            true = truth[found.percentile]
            held[found.percentile] += found.low <= true and (found.high is None or true <= found.high)
            left_open[found.percentile] += found.high is None
    return {rank: (held[rank] / RUNS, left_open[rank] / RUNS) for rank in truth}


def test_intervals_of_independent_latencies_cover_95_percent() -> None:
    truth = {rank: float(lognorm.ppf(rank / 100, 1)) for rank in (50.0, 90.0, 95.0, 99.0)}
    for covered, _ in coverage(independent, 1000, truth).values():
        assert 0.93 - NOISE <= covered <= 0.97 + NOISE


def test_intervals_of_queued_latencies_cover_or_are_left_open() -> None:
    truth = {rank: float(-np.log(1 - rank / 100) / 0.3) for rank in (50.0, 90.0, 95.0, 99.0)}
    for covered, _ in coverage(queued, 3000, truth).values():
        assert covered >= 0.93 - 2 * NOISE


def test_pretending_that_queued_latencies_are_independent_would_not_cover() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(100):
        found = percentile_of(np.sort(queued(rng, 3000)), 90.0)
        held += found.low <= -np.log(0.1) / 0.3 <= (found.high or np.inf)
    assert held < 60


@pytest.mark.parametrize("ratio", [0.005, 0.02, 0.3])
def test_ratio_intervals_cover_at_least_95_percent(ratio: float) -> None:
    rng = np.random.default_rng(6)
    counts = rng.binomial(400, ratio, size=2000)
    intervals = {int(count): ratio_interval(int(count), 400) for count in np.unique(counts)}
    covered = np.mean([intervals[int(count)][0] <= ratio <= intervals[int(count)][1] for count in counts])
    assert covered >= 0.95


@pytest.mark.parametrize(("percentile", "needed"), [(99, 299), (95, 59), (90, 29), (50, 5)])
def test_requests_that_a_claim_needs(percentile: float, needed: int) -> None:
    assert samples_needed(percentile) == needed


def test_a_claim_on_too_few_requests_is_refused_in_words() -> None:
    assert missing_for_claim(99, 180) == "P99 needs at least 299 requests for a 95 % bound; have 180"
    assert missing_for_claim(99, 299) is None


def test_p99_of_180_requests_is_left_open() -> None:
    found = distribution(np.random.default_rng(1).exponential(1, 180)).at(99.0)
    assert found is not None
    assert found.high is None
