"""Savings are of whole fleets that would have run, for as long as it was watched."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base import RevisionId, StudyId
from controlplane.domain.hardware import GpuPool
from controlplane.domain.operations.savings import LONGEST_GAP_S, Compared, Savings, compared, shown, went_on
from controlplane.domain.operations.spot import Held, SpotOptions
from controlplane.domain.studies.capacity import Capacity
from tests.builders_serving import NOW, a_recommendation, a_trial

POOL = GpuPool(type="H200", count=8, price_usd_per_gpu_hour=4)
TWICE = Compared(
    winner=Capacity(rps=10, low_rps=9, high_rps=11),
    winner_gpus=1,
    baseline=Capacity(rps=5, low_rps=4.5, high_rps=5.5),
    baseline_gpus=1,
)
NONE = Savings(revision=RevisionId("rev-1"), study_id=StudyId("st-1"), promoted_at=NOW)


def after(*looks: tuple[float, int], sides: Compared = TWICE) -> Savings:
    """Savings after looks at so many seconds, with so many GPUs held."""
    found = NONE
    for seconds, gpus in looks:
        found = went_on(found, sides, POOL, held=Held(gpus), at=NOW + timedelta(seconds=seconds))
    return found


def hour(gpus: int) -> list[tuple[float, int]]:
    return [(60.0 * minute, gpus) for minute in range(61)]


def test_twice_the_capacity_saves_as_much_as_runs() -> None:
    found = shown(after(*hour(3)))
    assert found is not None
    assert found.watched_h == pytest.approx(1)
    assert found.saved_usd_per_hour == pytest.approx(3 * 4)
    assert found.low_usd_per_hour == pytest.approx((5 - 3) * 4), "27 requests/s by replicas of 5.5 are 5 replicas"
    assert found.high_usd_per_hour == pytest.approx((8 - 3) * 4), "33 by replicas of 4.5 are 8"


def test_a_baseline_that_needs_as_many_whole_replicas_saves_nothing() -> None:
    little = TWICE.evolve(winner=Capacity(rps=5, low_rps=5, high_rps=5))
    assert after(*hour(1), sides=little).saved_usd == pytest.approx(0)


def test_a_dearer_winner_is_a_loss_and_is_said() -> None:
    wide = TWICE.evolve(winner_gpus=4)
    assert after(*hour(4), sides=wide).saved_usd == pytest.approx(2 * 4 - 4 * 4)


def an_hour(held: Held, spot: SpotOptions) -> Savings:
    found = NONE
    for minute in range(61):
        found = went_on(found, TWICE, POOL, held=held, spot=spot, at=NOW + timedelta(minutes=minute))
    return found


def test_spot_gpus_cost_their_own_price_on_both_sides() -> None:
    found = an_hour(Held(firm=1, spot=2), SpotOptions(on_demand_replicas=1, price_usd_per_gpu_hour=1))
    assert found.ran_usd == pytest.approx(4 + 2 * 1)
    assert found.baseline_usd == pytest.approx(4 + 5 * 1), "six replicas, one of them on demand as stable's"
    assert found.saved_usd == pytest.approx(3), "not 6 × 4 - 6: that spot GPUs are cheap it did not recommend"


def test_a_baseline_is_spot_as_often_as_stable_really_was() -> None:
    spot = SpotOptions(on_demand_replicas=0, price_usd_per_gpu_hour=1)
    none_free = an_hour(Held(firm=2), spot)
    assert [none_free.ran_usd, none_free.baseline_usd] == pytest.approx([8, 16])
    half = an_hour(Held(firm=1, spot=1), spot)
    assert [half.ran_usd, half.baseline_usd] == pytest.approx([5, 2 * 4 + 2 * 1])


def test_beyond_a_floor_that_stable_does_not_reach_the_baseline_would_be_spot() -> None:
    found = an_hour(Held(firm=1), SpotOptions(on_demand_replicas=1, price_usd_per_gpu_hour=1))
    assert found.saved_usd == pytest.approx(1), "the second replica of the baseline would be spot"


def test_a_spot_gpu_without_a_price_costs_as_one_on_demand() -> None:
    assert an_hour(Held(firm=1, spot=1), SpotOptions()).saved_usd == pytest.approx(2 * 4)


def test_what_was_not_watched_is_in_neither_sum() -> None:
    found = after((0, 2), (60, 2), (60 + LONGEST_GAP_S + 1, 2), (120 + LONGEST_GAP_S + 1, 2))
    assert found.watched_s == 120
    assert shown(after((0, 2))) is None
    assert after((60, 2), (0, 2)).watched_s == 0, "a clock that was set back"


def test_without_a_capacity_of_both_sides_nothing_is_compared() -> None:
    found = a_recommendation()
    assert compared(found.evidence) is None
    capacity = Capacity(rps=5, low_rps=4, high_rps=6)
    sides = found.evidence.evolve(baseline=a_trial(capacity=capacity), winner=a_trial(capacity=capacity))
    assert compared(sides) == Compared(winner=capacity, winner_gpus=1, baseline=capacity, baseline_gpus=1)


@given(st.lists(st.tuples(st.floats(1, 400), st.integers(0, 8)), max_size=20))
def test_the_interval_holds_the_estimate(steps: list[tuple[float, int]]) -> None:
    at_s, looks = 0.0, []
    for gap_s, gpus in steps:
        at_s += gap_s
        looks.append((at_s, gpus))
    found = shown(after(*looks))
    if found is not None:
        assert found.low_usd_per_hour - 1e-9 <= found.saved_usd_per_hour <= found.high_usd_per_hour + 1e-9
