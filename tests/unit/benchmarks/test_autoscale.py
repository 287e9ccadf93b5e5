"""The autoscaling benchmark: its fleet loses no request, its traffic and its policies are what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.autoscale import beaten_by, summary
from benchmarks.scaling.contestants import Hpa, Knative, Ours
from benchmarks.scaling.fleet import Seen, Week, missed_for_s, run, ticks
from benchmarks.scaling.replica import STARTUP_S, Replica
from benchmarks.scaling.traffic import DAY_TICKS, TICK_S, arrivals
from controlplane.domain.operations.replica_capacity import foretold
from controlplane.domain.studies.capacity import Capacity

RATES = np.array([0.0, 5.0, 10.0, 12.0])
ONE = Replica(
    capacity=foretold(
        Capacity(rps=10, low_rps=9, high_rps=11), prompt_tokens=100, output_tokens=20, kv_usage=None, e2e_s=1.0
    ),
    rates_rps=RATES,
    miss_share=np.array([0.0, 0.0, 0.01, 0.5]),
    crowd=RATES,
    waiting=np.array([0.0, 0.0, 1.0, 8.0]),
    most_rps=12.0,
)
MINUTE = 60 // TICK_S


def steady(*rates_rps: float, minutes: int = 10) -> np.ndarray:
    return np.concatenate([np.full(minutes * MINUTE, rate * TICK_S) for rate in rates_rps])


def seen(**changes: Any) -> Seen:
    return Seen(tick=0, arrived=0, in_flight=0, waiting=0, ready=4, wanted=4)._replace(**changes)


def test_a_week_has_nights_weekends_and_chance_and_comes_again_from_its_seed() -> None:
    week = arrivals(7, peak_rps=100, seed=1)
    assert len(week) == 7 * DAY_TICKS
    hours = week.reshape(7, 24, -1).mean(axis=2)
    assert hours[:, 4].mean() < 0.4 * hours[:, 16].mean()
    assert hours[[0, 6]].mean() < 0.85 * hours[1:6].mean()
    assert (week == arrivals(7, peak_rps=100, seed=1)).all()
    assert (week != arrivals(7, peak_rps=100, seed=2)).any()


def test_a_fleet_at_its_capacity_misses_what_the_curve_says_and_one_beyond_it_queues() -> None:
    at, beyond = (run(lambda s: 2, steady(rate), ONE, start=2, score_from=0) for rate in (20, 26))
    assert at.attainment == pytest.approx(0.99)
    assert beyond.attainment < 0.2
    assert at.gpu_hours == pytest.approx(2 * 10 / 60)


def test_a_replica_serves_when_it_has_started_and_costs_from_the_beginning() -> None:
    found = run(lambda s: 3, steady(26, minutes=1), ONE, start=2, score_from=0)
    assert found.actions == 1
    assert found.gpu_hours == pytest.approx((3 * 60 - TICK_S) / 3600)
    assert found.attainment < 0.2  # within its first minute the third one serves nobody


@pytest.mark.parametrize("replicas", [1, 2, 3, 10])
@pytest.mark.parametrize("seed", [401, 402, 403])
def test_ours_takes_a_step_to_three_times_within_a_start_and_30_seconds(replicas: int, seed: int) -> None:
    """Two looks until all that the step needs start, and the queue that grew until then is gone 20 s after they did."""
    rate_rps = 8.0 * replicas
    arrived = np.random.default_rng(seed).poisson(steady(rate_rps, 3 * rate_rps)).astype(np.float64)
    missed_s = missed_for_s(Ours(ONE, headroom=0.15), arrived, ONE, start=replicas, step_at=len(steady(rate_rps)))
    assert missed_s <= STARTUP_S + 30


def test_a_step_starts_what_its_queue_will_need_at_once_and_not_one_after_the_other() -> None:
    arrived, step_at = steady(20, 60), len(steady(20))
    wanted = [each.wanted for each in ticks(Ours(ONE, headroom=0.15), arrived, ONE, start=3)]
    assert wanted[step_at] == 3
    assert wanted[step_at + 2] == max(wanted)


def test_the_hpa_waits_for_its_window_before_it_goes_in_and_at_most_doubles() -> None:
    hpa = Hpa(lambda s: s.waiting / s.ready, 5.0, most=100)
    assert hpa(seen(waiting=4000)) == 8
    assert hpa(seen(tick=1, waiting=0)) == 4
    wishes = [hpa(seen(tick=3 * n, waiting=0)) for n in range(1, 25)]
    assert wishes[0] == 4
    assert wishes[-1] == 1


def test_knative_aims_at_its_target_and_panics_at_twice_what_is_ready() -> None:
    knative = Knative(limit=10.0, most=100)
    assert knative(seen(in_flight=28)) == 4
    assert knative(seen(tick=1, in_flight=70)) == 10


def test_who_is_both_cheaper_and_better_is_named() -> None:
    weeks = {
        "ours": Week(0.995, 60, 10, 9),
        "static peak": Week(1.0, 100, 0, 10),
        "lucky": Week(0.999, 50, 9, 9),
        "cheap": Week(0.9, 20, 9, 9),
    }
    rows = summary([weeks])
    assert beaten_by(rows) == ["lucky"]
    assert rows["ours"]["of_static_peak_percent"] == pytest.approx(60)
