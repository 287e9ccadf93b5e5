"""What is believed of a capacity: more evidence never hurts, contradictions are not certainty."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tuner.answer.made_studies import (
    QUICK,
    Capacities,
    spec_of,
    study_of,
)
from tuner.answer.evidence import measured
from tuner.answer.likelihood import Run, Seen
from tuner.answer.posterior import Belief, Subject, believe


@QUICK
@given(Capacities, st.floats(1.05, 2), st.integers(30, 600), st.booleans())
def test_a_higher_pass_and_a_higher_failure_never_lower_the_belief(
    rate: float, factor: float, requests: int, early: bool
) -> None:
    def median(at: float) -> float:
        low = Seen(at / 1.05, requests, 0, 0.05, requests, passed=True)
        high = Seen(at * 1.05, requests, 0.2 * requests, 0.05, requests, passed=False, whole=not early)
        return believe({"it": Subject((Run((low, high)),), 1)})["it"].median_rps

    assert median(rate * factor) >= median(rate)


@QUICK
@given(Capacities, st.sampled_from([0.01, 0.05, 0.1]), st.integers(100, 400))
def test_the_long_run_is_never_believed_to_sustain_more_than_the_runs_did(
    rate: float, allowed: float, requests: int
) -> None:
    missed = math.ceil(3 * allowed * requests)
    run = Run(
        (
            Seen(rate / 1.05, requests, 0, allowed, requests, passed=True),
            Seen(rate * 1.05, requests, missed, allowed, requests, passed=False),
        )
    )
    assert believe({"it": Subject((run,) * 4, 1)})["it"].median_rps < rate * 1.05


@QUICK
@given(Capacities, st.integers(20, 200))
def test_more_runs_that_agree_never_widen_the_interval(rate: float, requests: int) -> None:
    run = Run(
        (
            Seen(rate / 1.05, requests, 0, 0.05, requests, passed=True),
            Seen(rate * 1.05, requests, 0.2 * requests, 0.05, requests, passed=False),
        )
    )
    once, thrice = (believe({"it": Subject((run,) * n, 1)})["it"] for n in (1, 3))
    assert thrice.quantile(0.975) / thrice.quantile(0.025) < once.quantile(0.975) / once.quantile(0.025)


@QUICK
@given(Capacities, st.floats(0.02, 0.3))
def test_what_half_hours_differ_by_widens_what_is_believed_of_the_next_and_leaves_its_middle(
    rate: float, sd: float
) -> None:
    run = Run((Seen(rate, 300, 3, 0.05, 300, passed=True), Seen(rate * 1.1, 300, 60, 0.05, 300, passed=False)))
    mean, next_one = (believe({"it": Subject((run,), 1, None, each)})["it"] for each in (0.0, sd))
    assert next_one.quantile(0.025) < mean.quantile(0.025)
    assert next_one.quantile(0.975) > mean.quantile(0.975)
    assert next_one.median_rps == pytest.approx(mean.median_rps, rel=0.03)


@QUICK
@given(Capacities, st.floats(0.2, 0.4))
def test_where_half_hours_lie_far_apart_a_miss_just_above_a_pass_bounds_less_than_the_luck_to_come_explains(
    rate: float, sd: float
) -> None:
    levels = (Seen(rate, 300, 2, 0.01, 300, passed=True), Seen(rate * 1.1, 300, 4, 0.01, 300, passed=False))
    steep, flat = (believe({"it": Subject((Run(levels, 0.0),), 1, None, each)})["it"] for each in (0.0, sd))

    def width(belief: Belief) -> float:
        return math.log(belief.quantile(0.975) / belief.quantile(0.025)) / 2

    assert width(flat) > math.hypot(width(steep), 1.96 * sd)


@QUICK
@given(Capacities, st.integers(500, 1500))
def test_levels_of_a_run_that_contradict_each_other_do_not_make_runs_look_different(rate: float, requests: int) -> None:
    whole = (
        Seen(rate * 0.96, requests, 0.03 * requests, 0.05, requests, passed=True),
        Seen(rate, requests, 0.2 * requests, 0.05, requests, passed=False),
    )
    early = Seen(rate, requests / 8, 0, 0.05, requests / 8, passed=True, whole=False)
    plain, torn = (believe({"it": Subject((run,) * 6, 1)})["it"] for run in (Run(whole), Run((early, *whole))))
    widths = [found.quantile(0.975) / found.quantile(0.025) - 1 for found in (plain, torn)]
    assert widths[1] < 1.2 * widths[0]


def test_a_failure_after_a_few_requests_is_weaker_than_one_of_a_whole_level() -> None:
    rate, passes = 10.0, Seen(10.0, 600, 0, 0.01, 600, passed=True)
    burst = Seen(rate, 42, 8, 0.01, 48, passed=False, whole=False)
    whole = Seen(rate, 600, 60, 0.01, 600, passed=False)
    after = [
        believe({"it": Subject((Run((passes,)), Run((level,))), 1)})["it"].at_least(rate) for level in (burst, whole)
    ]
    assert after[0] > after[1]


@QUICK
@given(Capacities, st.floats(0.5, 2), st.integers(60, 600))
def test_what_the_twin_says_of_the_arrivals_is_taken_out_of_what_was_measured(
    rate: float, heavier: float, requests: int
) -> None:
    seen = (
        Seen(rate / 1.05, requests, 0, 0.05, requests, passed=True),
        Seen(rate * 1.05, requests, 0.2 * requests, 0.05, requests, passed=False),
    )
    usual, luck = (believe({"it": Subject((Run(seen, luck),), 1)})["it"] for luck in (0.0, math.log(1 / heavier)))
    assert luck.median_rps == pytest.approx(usual.median_rps * heavier, rel=0.03)
    assert luck.quantile(0.975) / luck.quantile(0.025) >= 0.99 * usual.quantile(0.975) / usual.quantile(0.025)


def test_alike_configurations_under_the_same_arrivals_do_not_make_those_certain() -> None:
    seen = Run((Seen(2.0, 100, 1, 0.05, 100, passed=True), Seen(2.2, 100, 20, 0.05, 100, passed=False)))
    alone = believe({"one": Subject((seen,), 2)})["one"]
    among = believe({name: Subject((seen,), 2) for name in ("one", "two", "three", "four")})["one"]
    assert among.at_least(2.6) > 0.25 * alone.at_least(2.6) > 0


def test_what_is_believed_does_not_depend_on_the_order_of_the_trials() -> None:
    spec = spec_of(10)
    trials = study_of(spec, (1, 4.0), (1, 10.0), (2, 18.0), rounds=2)
    forward, backward = measured(trials), measured(trials[::-1])
    for key, found in forward.items():
        assert backward[key].belief.median_rps == pytest.approx(found.belief.median_rps)


def test_a_run_whose_luck_is_known_says_more_than_one_that_may_have_had_any() -> None:
    """By its luck alone: the chance that thousands of other requests would have gone otherwise is taken out."""
    levels = (Seen(10.0, 300, 0, 0.05, 300, passed=True), Seen(10.5, 300, 60, 0.05, 300, passed=False))
    known, any_luck = (believe({"it": Subject((Run(levels, luck),), 1)})["it"] for luck in (0.0, None))
    assert known.quantile(0.975) / known.quantile(0.025) < any_luck.quantile(0.975) / any_luck.quantile(0.025)
    assert any_luck.median_rps < known.median_rps  # a typical run sustains more than the long run does
