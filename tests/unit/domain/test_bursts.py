"""Bounds on ratios whose hits come in runs: sane, tight enough, and right however long the runs are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.rollouts.bursts import Runs, Series, expected_end, least, most, series


@st.composite
def seen(draw: st.DrawFn) -> Series:
    n = draw(st.integers(1, 5000))
    hits = draw(st.integers(0, n))
    runs = draw(st.integers(min(hits, 1), min(hits, n - hits + 1)))
    open_ = draw(st.integers(0, min(1, runs)))
    return Series(n, hits, runs, open_)


@given(seen(), st.floats(0.001, 0.2), st.floats(0.02, 1))
def test_bounds_lie_around_what_was_seen(found: Series, alpha: float, end: float) -> None:
    low, high = least(found, alpha, least_end=end), most(found, alpha, least_end=end)
    assert 0 <= low <= 1
    assert 0 <= high <= 1
    assert low <= found.ratio + 1e-9


@given(seen())
def test_less_alpha_makes_wider_bounds(found: Series) -> None:
    assert most(found, 0.01, least_end=0.5) >= most(found, 0.05, least_end=0.5) - 1e-9
    assert least(found, 0.01, least_end=1) <= least(found, 0.05, least_end=1) + 1e-9 or found.runs <= 1


def test_the_same_misses_in_fewer_runs_say_less() -> None:
    apart, together = Series(2000, 100, 95, 0), Series(2000, 100, 5, 0)
    assert most(together, 0.05, least_end=0.5) > most(apart, 0.05, least_end=0.5) + 0.03
    end = expected_end([together], 2)
    assert least(together, 0.05, least_end=end) < least(apart, 0.05, least_end=end) - 0.01


def test_without_a_hit_the_declared_run_decides_how_many_requests_are_needed() -> None:
    assert most(Series(250, 0, 0, 0), 0.04, least_end=0.5) < 0.05
    assert most(Series(250, 0, 0, 0), 0.04, least_end=0.1) > 0.1


def test_a_run_longer_than_any_such_chain_has_leaves_only_what_was_seen() -> None:
    assert least(Series(40, 20, 1, 1), 0.003, least_end=0.5) == 0.5
    assert least(Series(40, 20, 1, 1), 0.003, least_end=0.05) < 0.05


def test_what_stable_shows_replaces_what_is_declared() -> None:
    assert expected_end([], 2) == 0.5
    assert expected_end([Series(1000, 100, 100, 0)], 2) == pytest.approx((0.8 * 100 + 1) / 102)
    assert expected_end([Series(1000, 100, 5, 0)], 2) == pytest.approx((0.8 * 5 + 1) / 102)


@pytest.mark.parametrize(
    ("n", "hits", "runs"), [(5, 6, None), (5, 1, Runs(runs=2)), (5, 2, Runs(runs=1, open=2)), (2, 2, Runs(runs=1))]
)
def test_impossible_counts_are_refused(n: int, hits: int, runs: Runs | None) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        series(n, hits, runs)


@given(st.integers(0, 300), st.integers(0, 300))
def test_counts_without_runs_are_those_of_a_chain_that_can_be(hits: int, others: int) -> None:
    found = series(hits + others, hits, None)
    assert series(found.n, found.hits, Runs(runs=found.runs, open=found.open)) == found
    assert 0 <= most(found, 0.05, least_end=0.5) <= 1


def test_one_miss_decides_nothing() -> None:
    assert least(series(1, 1, None), 0.01, least_end=0.5) < 0.1


@pytest.mark.parametrize("mean_run", [1.0, 5.0, 20.0])
def test_the_true_ratio_is_covered_at_every_look_whatever_the_runs(mean_run: float) -> None:
    rng, ratio, alpha, runs_wrong, lives = random.Random(3), 0.1, 0.1, 0, 60
    end = min(1 / mean_run, 1 - ratio)
    for _ in range(lives):
        wrong = False
        for found in chain(rng, ratio, mean_run, 1200):
            wrong |= most(found, alpha, least_end=end) < ratio
            wrong |= least(found, alpha, least_end=end) > ratio
        runs_wrong += wrong
    assert runs_wrong <= 2 * alpha * lives  # both bounds, each at alpha


def chain(rng: random.Random, ratio: float, mean_run: float, n: int) -> list[Series]:
    """A chain of this ratio and mean run, looked at every 40 requests."""
    end = 1 / mean_run if mean_run > 1 else 1 - ratio
    start = end * ratio / (1 - ratio)
    hit, hits, runs, looks = False, 0, 0, []
    for index in range(n):
        before, hit = hit, (rng.random() >= end) if hit else (rng.random() < start)
        hits, runs = hits + hit, runs + (hit and not before)
        if index % 40 == 39:
            looks.append(Series(index + 1, hits, runs, int(hit)))
    return looks


@given(end=st.floats(0.05, 0.8), hits=st.integers(1, 3))
def test_the_first_requests_missing_in_a_row_decide_nothing_either(end: float, hits: int) -> None:
    """Nothing but hits lies on the edge of the chains that can be: rounding once took it for beyond them."""
    assert least(series(hits, hits, Runs(runs=1, open=1)), 0.002, least_end=end) < 0.05
