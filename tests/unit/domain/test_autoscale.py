"""Out at once, in slowly, never on what is not known: the scaling policy alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.domain.operations.autoscale import (
    Load,
    ScaleDecision,
    ScaleFacts,
    WantedAt,
    decide,
    offered,
    replicas_needed,
    sure,
)
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.replica_capacity import Estimate, ReplicaCapacity, declared
from controlplane.domain.studies.tuning_options import Objective
from tests.builders_serving import NOW, after

TEN = declared(10.0)
PLAIN = Objective(headroom=0.2)
ON = AutoscaleOptions(enabled=True)
EVERY_S = 5


def facts(rate_rps: float | None, replicas: int, **more: Any) -> ScaleFacts:
    load = None if rate_rps is None else Load(rate_rps=rate_rps)
    return ScaleFacts(replicas=replicas, load=load, capacity=TEN, most=50)._replace(**more)


def watched(
    rates: list[tuple[float, float | None]], *, replicas: int, options: AutoscaleOptions = ON, **more: Any
) -> list[ScaleDecision]:
    """Let the policy act on itself: (seconds, rate) one after the other, every five seconds a decision."""
    past: tuple[WantedAt, ...] = ()
    found: list[ScaleDecision] = []
    at_s = 0.0
    for seconds, rate in rates:
        for _ in range(int(seconds / EVERY_S)):
            at_s += EVERY_S
            decision, past = decide(options, PLAIN, facts(rate, replicas, **more), past, after(at_s))
            replicas = decision.replicas
            found.append(decision)
    return found


def test_load_is_carried_with_headroom_and_spares() -> None:
    needed = replicas_needed(Load(rate_rps=81), TEN, ON, PLAIN)
    assert needed == (11, "requests/s")  # 81 / (10 x 0.8) rounds up
    assert replicas_needed(Load(rate_rps=80), TEN, AutoscaleOptions(spare_replicas=1), PLAIN)[0] == 11
    assert replicas_needed(Load(rate_rps=0), TEN, ON, PLAIN)[0] == 1


def test_longer_prompts_at_the_same_rate_need_more() -> None:
    tokens = Estimate(value=1000, low=1000, high=1000)
    capacity = ReplicaCapacity(source=TEN.source, rate_rps=TEN.rate_rps, prompt_tps=tokens)
    assert replicas_needed(Load(rate_rps=16, prompt_tps=3200), capacity, ON, PLAIN) == (4, "prompt tokens/s")


def test_more_load_is_answered_at_once() -> None:
    found = watched([(60, 16), (5, 48)], replicas=2)
    assert [each.replicas for each in found[-2:]] == [2, 6]


def test_less_load_is_answered_when_it_was_less_all_through_the_window() -> None:
    found = watched([(600, 48), (700, 16)], replicas=6)
    gone_s = next(EVERY_S * (index + 1) for index, each in enumerate(found) if each.replicas < 6)
    assert 600 + ON.scale_in_after_s <= gone_s <= 600 + ON.scale_in_after_s + 60
    assert found[-1].replicas == 2


def test_a_burst_within_the_window_keeps_what_it_needed() -> None:
    found = watched([(600, 48), (300, 16), (10, 40), (500, 16)], replicas=6)
    assert min(each.replicas for each in found) == 5


def test_a_new_memory_lets_nobody_go_before_a_whole_window_is_known() -> None:
    found = watched([(ON.scale_in_after_s - EVERY_S, 8)], replicas=6)
    assert {each.replicas for each in found} == {6}
    assert "are known" in found[-1].reason


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"problem": "no gateway answers"}, "no gateway answers"),
        ({}, "not known"),
        ({"capacity": None}, "no capacity"),
        ({"hold": "rollout ro-1 is promoting"}, "promoting"),
    ],
)
def test_what_is_not_known_changes_nothing_and_says_so(more: dict[str, Any], says: str) -> None:
    load = None if "hold" not in more and "capacity" not in more else 400.0
    found = watched([(900, 48)], replicas=6) + watched([(900, load)], replicas=6, **more)
    last = found[-1]
    assert (last.replicas, last.held) == (6, True)
    assert says in last.reason


def test_after_a_silence_nobody_goes_until_a_whole_window_is_known_again() -> None:
    found = watched([(900, 8), (200, None), (ON.scale_in_after_s - 100, 8)], replicas=6, options=ON)
    early = watched([(900, 8)], replicas=6)
    assert early[-1].replicas == 1
    assert found[int(890 / EVERY_S)].replicas == 1  # it had gone in before the silence
    held = watched([(300, 48), (300, 8), (200, None), (ON.scale_in_after_s - 100, 8)], replicas=6)
    assert {each.replicas for each in held} == {6}


def test_a_silence_does_not_hold_back_what_is_missing() -> None:
    found = watched([(300, 8), (300, None), (5, 48)], replicas=1)
    assert found[-1].replicas == 6


def test_while_a_canary_is_judged_replicas_come_and_none_goes() -> None:
    judged: dict[str, Any] = {"keep": "rollout ro-1 is judged"}
    assert watched([(1300, 8)], replicas=6, **judged)[-1].replicas == 6
    assert watched([(5, 80)], replicas=6, **judged)[-1].replicas == 10


def test_a_ceiling_is_kept_and_named() -> None:
    found = watched([(5, 800)], replicas=2, most=4, most_why="max_usd_per_hour is 12")[-1]
    assert found.replicas == 4
    assert "max_usd_per_hour is 12" in found.reason


def test_what_is_expected_within_a_start_is_started_now_and_what_is_not_expected_takes_nothing_away() -> None:
    assert watched([(5, 16)], replicas=2, expected_rps=40.0)[-1].replicas == 5
    assert watched([(5, 40)], replicas=2, expected_rps=8.0)[-1].replicas == 5


CROWDED = ReplicaCapacity(
    source=TEN.source,
    rate_rps=TEN.rate_rps,
    concurrent=Estimate(value=20, low=20, high=20),
    startup_s=Estimate(value=90, low=90, high=90),
)


def wanted(rate_rps: float, **more: Any) -> int | None:
    return decide(ON, PLAIN, facts(rate_rps, 2, capacity=CROWDED, **more), (), NOW)[0].wanted


def test_the_queue_that_is_there_and_that_grows_until_a_start_is_to_go_as_well() -> None:
    assert wanted(24, ready=2, in_flight=40) == 5  # 360 will wait: 24 / 8 and 360 / 20 s / 10
    assert wanted(16, ready=2, in_flight=40) == 2
    assert wanted(16, ready=2, in_flight=160) == 3
    assert wanted(24, ready=0, in_flight=900) == 3
    assert wanted(24, ready=2) == 3  # nobody counted what is in flight


def test_what_starts_already_takes_of_the_queue_only_from_when_it_is_ready() -> None:
    just, long_ago = (wanted(24, ready=1, in_flight=20, starting_s=(since_s,) * 3) for since_s in (5.0, 60.0))
    assert just == 9  # 1260 will wait, of which three that are ready 5 s before a new one take 150
    assert long_ago == 3  # ready in 30 s, they have taken all of it before a new one could


def test_a_queue_is_counted_in_the_engines_own_time() -> None:
    assert wanted(24, ready=2, in_flight=40, time_lapse=4.0) == 5  # four times as many, in four times as long
    assert wanted(16, ready=2, in_flight=40 + 480, time_lapse=4.0) == wanted(16, ready=2, in_flight=40 + 120)


def test_of_the_last_seconds_only_what_is_certain_is_acted_on_and_the_shortest_sees_a_step_first() -> None:
    whole, steps = Load(rate_rps=20), {5.0: Load(rate_rps=60), 15.0: Load(rate_rps=33)}
    assert offered(whole, steps).rate_rps == pytest.approx(60 * (1 - 2 / 300**0.5))
    assert offered(whole, {5.0: Load(rate_rps=22)}) == whole
    assert offered(whole, {}) == whole


def test_of_a_short_while_only_what_is_certain_counts() -> None:
    assert sure(Load(rate_rps=4), 1.0).rate_rps == 0
    assert sure(Load(rate_rps=100), 100.0).rate_rps == pytest.approx(98)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_what_is_no_number_is_no_load(number: float) -> None:
    with pytest.raises(ValidationError):
        Load(rate_rps=number)


def test_a_window_of_replicas_must_not_be_empty() -> None:
    with pytest.raises(ValidationError, match="max_replicas 2 is below min_replicas 3"):
        AutoscaleOptions(min_replicas=3, max_replicas=2)


rates = st.none() | st.floats(min_value=0, max_value=2000)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from([5, 30, 120, 700]), rates), max_size=8), start=st.integers(1, 20))
def test_whatever_happens_replicas_stay_within_their_bounds_and_go_only_when_all_is_known(
    steps: list[tuple[float, float | None]], start: int
) -> None:
    options = AutoscaleOptions(enabled=True, min_replicas=2)
    before, silent_until, now = start, NOW - timedelta(days=1), NOW
    for decision in watched(steps, replicas=start, options=options, most=30):
        now = decision.at
        if decision.held:
            silent_until = now
        assert 1 <= decision.replicas <= max(30, start)
        assert decision.replicas >= min(before, 2)
        if decision.replicas < before:
            assert now - NOW >= timedelta(seconds=options.scale_in_after_s)
            assert now > silent_until
        before = decision.replicas
