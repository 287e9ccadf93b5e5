"""The bounds hold at every look, not only at the end: checked by simulation, seeded."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.rollouts.anytime import _log_martingale, difference_bounds, miss_ratio_bounds

RUNS = 300
LOOKS = 400
LOOKED_AT = frozenset(round(1.25**k) for k in range(27))


def test_nothing_seen_bounds_nothing() -> None:
    assert miss_ratio_bounds(0, 0, 0.05) == (0.0, 1.0)
    assert difference_bounds(0, 0, 0, 0, 0.05) == pytest.approx((-1.0, 1.0), abs=1e-6)


@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.3])
def test_true_ratio_is_ever_excluded_in_at_most_alpha_of_the_runs(ratio: float) -> None:
    chance = random.Random(7)
    excluded = sum(_ever_excluded(ratio, chance) for _ in range(RUNS))
    assert excluded / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5  # three standard errors of the simulation


def _ever_excluded(ratio: float, chance: random.Random) -> bool:
    misses = 0
    for n in range(1, LOOKS + 1):
        misses += chance.random() < ratio
        if n in LOOKED_AT:
            low, high = miss_ratio_bounds(misses, n, 0.05)
            if not low <= ratio <= high:
                return True
    return False


def test_true_difference_is_ever_excluded_in_at_most_alpha_of_the_runs() -> None:
    chance = random.Random(8)
    excluded = sum(_difference_ever_excluded(0.08, 0.03, chance) for _ in range(60))
    assert excluded / 60 <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


def _difference_ever_excluded(ratio_a: float, ratio_b: float, chance: random.Random) -> bool:
    misses_a = misses_b = n_b = 0
    for n_a in range(1, 301):
        misses_a += chance.random() < ratio_a
        for _ in range(3):  # the stable side gets three times the traffic
            n_b += 1
            misses_b += chance.random() < ratio_b
        if n_a % 25 == 0:
            low, high = difference_bounds(misses_a, n_a, misses_b, n_b, 0.05)
            if not low <= ratio_a - ratio_b <= high:
                return True
    return False


@given(st.integers(1, 2000), st.data())
def test_estimate_lies_within_its_bounds(n: int, data: st.DataObject) -> None:
    misses = data.draw(st.integers(0, n))
    low, high = miss_ratio_bounds(misses, n, 0.05)
    assert 0 <= low <= misses / n <= high <= 1


@pytest.mark.parametrize(("misses_a", "n_a", "misses_b", "n_b"), [(5, 100, 4, 80), (30, 300, 60, 900), (3, 40, 9, 50)])
def test_difference_of_comparable_samples_is_tighter_than_half_of_alpha_each(
    misses_a: int, n_a: int, misses_b: int, n_b: int
) -> None:
    low, high = difference_bounds(misses_a, n_a, misses_b, n_b, 0.05)
    low_a, high_a = miss_ratio_bounds(misses_a, n_a, 0.025)
    low_b, high_b = miss_ratio_bounds(misses_b, n_b, 0.025)
    assert low_a - high_b < low < misses_a / n_a - misses_b / n_b < high < high_a - low_b


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_estimated_difference_lies_within_its_bounds(n_a: int, n_b: int, data: st.DataObject) -> None:
    misses_a, misses_b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    low, high = difference_bounds(misses_a, n_a, misses_b, n_b, 0.05)
    assert -1 <= low <= misses_a / n_a - misses_b / n_b <= high <= 1


@pytest.mark.parametrize(("misses", "n"), [(1, 3), (7, 400), (399.5, 400), (2.25, 90)])
def test_a_bound_is_where_the_martingale_reaches_what_alpha_allows(misses: float, n: int) -> None:
    low, high = miss_ratio_bounds(misses, n, 0.05)
    for bound in (low, high):
        assert _log_martingale(bound, misses, n) == pytest.approx(math.log(20), rel=1e-6)
    further, _ = difference_bounds(misses, n, misses, n, 0.05)
    assert -1 < further < 0 < low


def test_swapping_the_samples_flips_the_difference() -> None:
    low, high = difference_bounds(5, 100, 1, 80, 0.05)
    assert difference_bounds(1, 80, 5, 100, 0.05) == pytest.approx((-high, -low))


@pytest.mark.parametrize(("misses", "n", "alpha"), [(2, 1, 0.05), (-1, 5, 0.05), (1, 5, 0.0), (1, 5, 1.0)])
def test_impossible_input_is_refused(misses: int, n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"cannot be|between 0 and 1"):
        miss_ratio_bounds(misses, n, alpha)
