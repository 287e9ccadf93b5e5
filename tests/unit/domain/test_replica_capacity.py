"""One capacity model: every unit from the same level, intervals that contain, live traffic that corrects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.operations.replica_capacity import (
    Estimate,
    Live,
    ReplicaCapacity,
    Source,
    corrected,
    declared,
    foretold,
    measured,
)
from controlplane.domain.report import Distribution, Validity
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Level
from tests.builders_reports import a_load_report

TEN = Capacity(rps=10, low_rps=9, high_rps=11)


def a_level(rate_rps: float, *, passed: bool = True, replicas: int | None = None, **report: Any) -> Level:
    """A level at which a request has 100 prompt and 20 output tokens, TTFT 200 ms and E2E 2 s on average."""
    figures = {
        "rate_rps": rate_rps,
        "throughput_rps": rate_rps,
        "prompt_tps": 100 * rate_rps,
        "output_tps": 20 * rate_rps,
        "ttft_ms": Distribution(count=50, mean=200.0),
        "e2e_ms": Distribution(count=50, mean=2000.0),
    }
    found = a_load_report(**(figures | report))
    return Level(rate_rps=rate_rps, passed=passed, certain=True, reason="", report=found, replicas=replicas)


def test_every_unit_is_the_rate_in_other_words() -> None:
    model = measured(TEN, [a_level(5), a_level(9.5), a_level(12, passed=False)], source=Source.TRIAL)
    assert model.rate_rps == Estimate(value=10, low=9, high=11)
    assert model.prompt_tps == Estimate(value=1000, low=900, high=1100)
    assert model.output_tps == Estimate(value=200, low=180, high=220)
    assert model.concurrent == Estimate(value=20, low=18, high=22)
    assert model.prefill_tokens == Estimate(value=200, low=180, high=220)
    assert model.startup_s is None


@pytest.mark.parametrize(
    "untelling",
    [
        a_level(10, passed=False, e2e_ms=Distribution(count=9, mean=60_000.0)),
        a_level(10, validity=Validity.INVALID, e2e_ms=Distribution(count=9, mean=60_000.0)),
        a_level(10, completed=0, throughput_rps=0),
        a_level(10, replicas=3, e2e_ms=Distribution(count=9, mean=60_000.0)),
    ],
)
def test_a_level_that_tells_nothing_of_one_replica_at_its_limits_is_not_asked(untelling: Level) -> None:
    model = measured(TEN, [a_level(8), untelling], source=Source.TRIAL)
    assert model.concurrent == Estimate(value=20, low=18, high=22)
    assert measured(TEN, [untelling], source=Source.TRIAL).concurrent is None


def test_starts_are_told_by_their_median_shortest_and_longest() -> None:
    model = measured(TEN, [], source=Source.TRIAL, startups_s=[190.0, 65.0, 70.0])
    assert model.startup_s == Estimate(value=70, low=65, high=190)


def test_a_crowd_is_let_in_that_the_rate_explains_and_no_more() -> None:
    model = measured(TEN, [a_level(10)], source=Source.TRIAL)
    assert model.concurrency_limit == 37  # 22 on average at the highest likely rate, and 3 x sqrt(22)
    assert declared(10).concurrency_limit is None


def test_the_twin_says_the_same_in_its_own_name() -> None:
    model = foretold(TEN, prompt_tokens=100, output_tokens=20, kv_usage=0.5, e2e_s=2.0)
    assert (model.source, model.concurrent) == (Source.TWIN, Estimate(value=20, low=18, high=22))
    assert model.kv_percent == Estimate(value=50, low=50, high=50)


def test_nothing_seen_corrects_nothing() -> None:
    model = declared(10)
    assert corrected(model, Live()) is model


def test_a_model_that_was_sure_moves_little_and_one_that_was_not_moves_far() -> None:
    sure = measured(TEN, [], source=Source.CONFIRMED)
    unsure = measured(Capacity(rps=10, low_rps=4, high_rps=25), [], source=Source.TRIAL)
    at_seven = Live(missed_rps=7)
    assert 8.5 < corrected(sure, at_seven).rate_rps.value < 10
    assert corrected(unsure, at_seven).rate_rps.value < 7


def test_what_hangs_on_the_rate_moves_with_it_and_the_start_does_not() -> None:
    unsure = measured(Capacity(rps=10, low_rps=4, high_rps=25), [a_level(10)], source=Source.TRIAL, startups_s=[90.0])
    after = corrected(unsure, Live(held_rps=20))
    assert after.observed
    assert after.concurrent is not None
    assert after.concurrent.value == pytest.approx(2 * after.rate_rps.value)
    assert after.startup_s == unsure.startup_s


rates = st.floats(min_value=0.01, max_value=1000)


@settings(deadline=None)
@given(rps=rates, wide=st.floats(min_value=1.0, max_value=4.0), held=st.none() | rates, missed=st.none() | rates)
def test_an_interval_contains_its_value_whatever_was_seen(
    rps: float, wide: float, held: float | None, missed: float | None
) -> None:
    model = measured(Capacity(rps=rps, low_rps=rps / wide, high_rps=rps * wide), [], source=Source.TRIAL)
    after = corrected(model, Live(held_rps=held, missed_rps=missed)).rate_rps
    assert 0 < after.low <= after.value <= after.high


@settings(deadline=None)
@given(held=rates)
def test_what_held_never_lowers_a_capacity_and_what_missed_never_raises_it(held: float) -> None:
    model = measured(Capacity(rps=10, low_rps=5, high_rps=20), [], source=Source.TRIAL)
    step = 10 * 0.005  # of the grid on which the posterior is worked out
    assert corrected(model, Live(held_rps=held)).rate_rps.value >= 10 - step
    assert corrected(model, Live(missed_rps=held)).rate_rps.value <= 10 + step


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_what_is_no_number_is_no_capacity(number: float) -> None:
    with pytest.raises(ValueError, match=r"rate_rps"):
        ReplicaCapacity(source=Source.DECLARED, rate_rps={"value": number, "low": number, "high": number})
