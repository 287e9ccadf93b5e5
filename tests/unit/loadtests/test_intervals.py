"""Coverage of the stated 95 % intervals, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.interval_coverage import Scenario, autoregressive, coverage, lognormal, queued
from controlplane.domain.enough import samples_needed
from loadtests.measure.intervals import distribution, missing_for_claim, percentile_of, ratio_interval

RUNS = 500
NOISE = (0.95 * 0.05 / RUNS) ** 0.5  # one standard error of a simulated coverage


@pytest.mark.parametrize("requests", [300, 1000])
def test_intervals_of_independent_latencies_cover_95_percent(requests: int) -> None:
    for rank, found in coverage(lognormal(), requests, runs=RUNS, seed=5).items():
        assert found.held >= 0.93 - NOISE
        assert found.held <= 0.97 + NOISE or found.left_open > 0.5, rank


@pytest.mark.parametrize(
    ("scenario", "requests"), [(queued(0.7), 1000), (queued(0.7), 3000), (autoregressive(0.8), 1000)]
)
def test_intervals_of_correlated_latencies_cover_95_percent_or_say_that_they_are_wider(
    scenario: Scenario, requests: int
) -> None:
    for rank, found in coverage(scenario, requests, runs=RUNS, seed=5).items():
        assert found.held >= 0.93 - NOISE
        assert found.held <= 0.97 + NOISE or found.left_open > 0.05, rank


def test_pretending_that_queued_latencies_are_independent_would_not_cover() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(100):
        found = percentile_of(np.sort(queued(0.7).draw(rng, 3000)), 90.0)
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
