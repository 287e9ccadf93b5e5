"""Yesterday's curve, scaled to how today has begun; nothing where nobody knows."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.operations.forecast import (
    BIN_S,
    KEPT_BINS,
    Arrivals,
    bin_of,
    expected_rps,
    mean_error,
    with_bin,
)

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 86_400 // BIN_S


def daily(number: int) -> float:
    return 10 + 8 * math.sin(2 * math.pi * number / DAY)


def days(count: float, scale_today: float = 1.0) -> Arrivals:
    """Whole days of a daily curve up to MIDNIGHT + the fraction, the last part of a day scaled."""
    found, first = Arrivals(), bin_of(MIDNIGHT) - int(count) * DAY
    for number in range(first, first + int(count * DAY)):
        scale = scale_today if number >= bin_of(MIDNIGHT) else 1.0
        found = with_bin(found, number, scale * daily(number))
    return found


def test_without_a_day_nothing_is_expected() -> None:
    assert expected_rps(Arrivals(), MIDNIGHT, 600) is None
    assert expected_rps(days(0.9), MIDNIGHT, 600) is None
    assert mean_error(days(1.1), 600) is None


def test_the_highest_of_the_time_ahead_is_expected() -> None:
    known = days(2.25)
    now = MIDNIGHT + timedelta(hours=5, minutes=58)  # two minutes before the daily peak
    peak = max(daily(number) for number in range(bin_of(now), bin_of(now) + 3))
    assert expected_rps(days(2 + 5.9 / 24), now, 600) == pytest.approx(peak)
    assert known.at(bin_of(now)) is not None


def test_a_day_that_began_higher_is_expected_to_stay_so() -> None:
    now = MIDNIGHT + timedelta(hours=3)
    assert expected_rps(days(2.125, scale_today=1.5), now, 0) == pytest.approx(1.5 * daily(bin_of(now)))


def test_no_day_is_expected_to_be_more_than_twice_another() -> None:
    now = MIDNIGHT + timedelta(hours=3)
    assert expected_rps(days(2.125, scale_today=9), now, 0) == pytest.approx(2 * daily(bin_of(now)))


def test_a_curve_that_repeats_is_foretold_without_error_and_one_that_jumps_with_some() -> None:
    assert mean_error(days(3), 600) == pytest.approx(0, abs=1e-9)
    jumping = days(2)
    for number in range(jumping.end, jumping.end + DAY):
        jumping = with_bin(jumping, number, daily(number) * (2 if number // 12 % 2 else 1))
    error = mean_error(jumping, 600)
    assert error is not None
    assert 0.1 < error < 0.6


def test_gaps_stay_unknown_and_old_bins_go() -> None:
    found = with_bin(with_bin(Arrivals(), 100, 1.0), 103, 2.0)
    assert found.rates_rps == (1.0, None, None, 2.0)
    assert with_bin(found, 101, 9.0) is found
    assert with_bin(found, 104 + KEPT_BINS, 3.0).rates_rps == (3.0,)


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 1e4)), min_size=1, max_size=20))
def test_what_is_kept_is_bounded_and_reads_back(steps: list[tuple[int, float]]) -> None:
    found, number = Arrivals(), 0
    for ahead, rate in steps:
        number += ahead
        found = with_bin(found, number, rate)
    assert len(found.rates_rps) <= KEPT_BINS
    assert found.at(number) == steps[-1][1]
    assert found.at(number + 1) is None
