"""The statistics that are compared count as they say, and see a change where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift_statistics import STATISTICS, Sums, alarms, drawn, found_after_min


def test_lengths_have_the_mean_and_spread_that_they_say_and_sessions_three_requests() -> None:
    logs, sizes = drawn(40_000, np.random.default_rng(7))
    assert len(logs) == sizes.sum()
    assert sizes.mean() == pytest.approx(3, rel=0.02)
    lengths = np.exp(logs - logs.var() / 2)
    assert lengths.std() / lengths.mean() == pytest.approx(1.2, rel=0.1)


def test_alarms_are_counted_once_each_time_a_sum_goes_above() -> None:
    sums = np.array([0.0, 3.0, 4.0, 1.0, 5.0])
    assert alarms([Sums(sums, np.zeros(5), np.arange(5.0))], 2.0) == 2


@pytest.mark.parametrize("name", STATISTICS)
def test_every_statistic_finds_a_doubling_and_later_at_a_higher_threshold(name: str) -> None:
    soon, late = (found_after_min(STATISTICS[name], threshold, seed=50_001) for threshold in (4.0, 12.0))
    assert 0 < soon < late < 300
