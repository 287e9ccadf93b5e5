"""The rate ladder: which rate comes next, and what the rates add up to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.ladder.ladder import Ladder, LadderOptions, Rung


def climb(ladder: Ladder, capacity: float, *, steepness: float = 8.0, certain: bool = True) -> Ladder:
    """Climb on an engine whose pressure is (rate / capacity) ** steepness."""
    while (rate := ladder.next_rate()) is not None:
        pressure = min((rate / capacity) ** steepness, 50.0)
        ladder = ladder.climbed(Rung(rate_rps=rate, passed=pressure <= 1, certain=certain, pressure=pressure))
    return ladder


def ladder(start: float, **changes: float) -> Ladder:
    return Ladder(options=LadderOptions(precision=0.05, max_levels=20, floor_rps=0.01), start_rps=start, **changes)


def test_the_first_rate_is_the_one_to_beat() -> None:
    assert ladder(8.0, beat_rps=8.0).next_rate() == 8.0


def test_a_candidate_that_certainly_misses_there_is_dropped_after_one_level() -> None:
    done = climb(ladder(8.0, beat_rps=8.0), capacity=6.0)
    assert len(done.rungs) == 1
    assert done.is_dropped


def test_an_uncertain_miss_there_is_looked_at_further() -> None:
    done = climb(ladder(8.0, beat_rps=8.0), capacity=7.9, certain=False)
    assert not done.is_dropped
    assert len(done.rungs) > 1


@given(
    start=st.floats(0.5, 50),
    capacity=st.floats(0.5, 50),
    steepness=st.floats(1.0, 30.0),
    forecast=st.none() | st.floats(0.5, 50),
)
def test_the_interval_holds_the_capacity_and_is_as_thin_as_asked_where_no_end_is_in_doubt(
    start: float, capacity: float, steepness: float, forecast: float | None
) -> None:
    done = climb(ladder(start).evolve(forecast_rps=forecast), capacity, steepness=steepness)
    found = done.capacity()
    assert found is not None
    assert found.low_rps <= capacity * (1 + 1e-9)
    assert found.high_rps >= capacity * (1 - 1e-9)
    in_doubt = sum(1 / 1.25 < rung.pressure < 1.25 for rung in done.rungs if rung.pressure is not None)
    assert found.high_rps / found.low_rps <= 1.05 ** (3 + 2 * min(in_doubt, 2)) * (1 + 1e-6)
    assert found.low_rps <= found.rps <= found.high_rps


def test_pressures_save_levels_over_bisection() -> None:
    assert len(climb(ladder(10.0), capacity=17.0).rungs) <= 6


def test_a_good_forecast_saves_levels() -> None:
    assert len(climb(ladder(5.0, forecast_rps=19.8), capacity=20.0).rungs) <= 4


def test_an_engine_without_useful_capacity_ends_at_the_floor() -> None:
    start = ladder(8.0).evolve(options=LadderOptions(floor_rps=2.0))
    done = climb(start, capacity=0.01)
    assert done.capacity() is None
    assert min(rung.rate_rps for rung in done.rungs) >= 2.0


def test_a_capacity_beyond_every_rate_tried_is_censored() -> None:
    short = Ladder(options=LadderOptions(max_levels=2), start_rps=1.0)
    found = climb(short, capacity=1000.0).capacity()
    assert found is not None
    assert found.censored


def test_levels_are_never_more_than_allowed() -> None:
    done = climb(Ladder(options=LadderOptions(max_levels=3, precision=0.001), start_rps=1.0), capacity=math.pi)
    assert len(done.rungs) == 3


@pytest.mark.parametrize("capacity", [0.7, 3.3, 12.0])
def test_no_rate_is_tried_twice(capacity: float) -> None:
    rates = [rung.rate_rps for rung in climb(ladder(4.0), capacity).rungs]
    assert len(rates) == len(set(rates))


def test_an_early_pass_next_to_a_failure_is_made_sure_of_by_a_whole_level() -> None:
    unsure = ladder(10.0).evolve(
        rungs=(
            Rung(rate_rps=10.0, passed=True, certain=False, pressure=0.1, whole=False),
            Rung(rate_rps=10.8, passed=False, certain=True, pressure=9.0),
        )
    )
    rate = unsure.next_rate()
    assert rate is not None
    assert rate <= 10.0
    assert not unsure.may_pass_early(rate)
    settled = unsure.climbed(Rung(rate_rps=rate, passed=True, certain=False, pressure=0.1))
    assert settled.next_rate() is None


def test_a_level_may_pass_early_only_far_below_every_failure() -> None:
    failed = ladder(10.0).climbed(Rung(rate_rps=10.0, passed=False, certain=True, pressure=9.0))
    assert failed.may_pass_early(7.0)
    assert not failed.may_pass_early(9.0)


def test_two_whole_levels_near_their_limit_settle_it_by_the_line_between_them() -> None:
    near = ladder(10.0).evolve(
        rungs=(
            Rung(rate_rps=10.0, passed=True, certain=False, pressure=0.7),
            Rung(rate_rps=11.2, passed=False, certain=False, pressure=1.4),
        )
    )
    assert near.next_rate() is None
    found = near.capacity()
    assert found is not None
    assert 10.5 < found.rps < 10.7


def test_an_end_within_noise_of_its_limit_widens_the_interval_on_its_side_only() -> None:
    bracket = (
        Rung(rate_rps=10.0, passed=True, certain=False, pressure=0.95),
        Rung(rate_rps=11.0, passed=False, certain=False, pressure=3.0),
    )
    doubtful = ladder(10.0).evolve(rungs=bracket).capacity()
    firm = ladder(10.0).evolve(rungs=(bracket[0].evolve(pressure=0.5), bracket[1])).capacity()
    assert doubtful is not None
    assert firm is not None
    assert doubtful.low_rps < 10.0 / 1.04
    assert firm.low_rps > 10.0 / 1.04
    assert doubtful.high_rps == 11.0


def climb_with_a_twin(start: Ladder, capacity: float, *, expects: float | None, steepness: float = 8.0) -> Ladder:
    """Climb with a twin that expects `expects` whatever it sees (None: without); levels pass early where they may."""
    ladder = start
    while (rate := ladder.next_rate()) is not None:
        pressure = min((rate / capacity) ** steepness, 50.0)
        early = ladder.may_pass_early(rate) and pressure < 0.3
        rung = Rung(rate_rps=rate, passed=pressure <= 1, certain=pressure > 2, pressure=pressure, whole=not early)
        ladder = ladder.climbed(rung, fitted_rps=expects)
    return ladder


@given(
    start=st.floats(0.5, 50),
    capacity=st.floats(0.5, 50),
    steepness=st.floats(1.0, 30.0),
    error=st.floats(0.2, 5.0),
)
def test_a_fitted_twin_however_wrong_never_hides_the_capacity(
    start: float, capacity: float, steepness: float, error: float
) -> None:
    done = climb_with_a_twin(ladder(start), capacity, expects=capacity * error, steepness=steepness)
    found = done.capacity()
    assert found is not None
    assert found.low_rps <= capacity * (1 + 1e-9)
    assert found.high_rps >= capacity * (1 - 1e-9)
    assert found.high_rps / found.low_rps <= 1.05**5 * (1 + 1e-6)
    assert found.low_rps <= found.rps <= found.high_rps
    whole = [rung.rate_rps for rung in done.rungs if rung.whole]
    assert len(whole) == len(set(whole))


def test_a_fitted_twin_that_is_right_needs_three_levels_wherever_they_start() -> None:
    for start in (2.0, 9.0, 20.0, 60.0):
        done = climb_with_a_twin(ladder(start), capacity=20.0, expects=20.0)
        assert len(done.rungs) <= 3
        assert done.capacity() is not None
        assert done.capacity().rps == pytest.approx(20.0, rel=0.02)  # type: ignore[union-attr]


def test_a_fitted_twin_that_the_levels_contradict_is_not_believed() -> None:
    """On a real engine a small KV cache made a cliff at a third of what the twin expects."""
    done = climb_with_a_twin(ladder(15.0, forecast_rps=15.0), capacity=4.7, expects=15.6)
    without = climb_with_a_twin(ladder(15.0, forecast_rps=15.0), capacity=4.7, expects=None)
    assert len(done.rungs) <= len(without.rungs) + 1
    assert done.capacity().rps == pytest.approx(4.7, rel=0.05)  # type: ignore[union-attr]


def test_far_below_what_a_fitted_twin_expects_a_level_may_pass_early_and_near_it_not() -> None:
    rung = Rung(rate_rps=5.0, passed=True, certain=False, pressure=0.1, whole=False)
    seen = ladder(5.0).climbed(rung, fitted_rps=20.0)
    assert seen.may_pass_early(10.0)
    assert not seen.may_pass_early(19.0)
