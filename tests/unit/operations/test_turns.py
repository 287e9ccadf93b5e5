"""Whose turn it is on shared GPUs: least recently used, not too soon, nobody for ever."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from controlplane.domain.base import ServiceName
from controlplane.domain.operations.share_options import ShareOptions
from controlplane.domain.operations.turns import Member, Turn, Turns, given_back, next_turns
from tests.builders_serving import NOW, a_spec, after

OPTIONS = ShareOptions(pool="small", min_awake_s=10, turn_s=60)
A, B, C = ServiceName("a"), ServiceName("b"), ServiceName("c")


def member(name: ServiceName, *, awake: int = 1, **changes: Any) -> Member:
    return Member(name, OPTIONS.evolve(awake=awake), ready_at=NOW)._replace(**changes)


def turns(*names: ServiceName, clear: bool = True) -> Turns:
    return Turns(awake=tuple(Turn(service=name, since=NOW) for name in names), clear=clear)


def next_at(seconds: float, before: Turns, *members: Member) -> set[ServiceName]:
    return {turn.service for turn in next_turns(before, members, after(seconds)).awake}


def waiting(name: ServiceName, since: datetime = NOW, **changes: Any) -> Member:
    return member(name, waits_since=since, busy=True, **changes)


def test_who_is_asked_for_takes_the_place_of_one_that_nobody_asks_once_that_was_awake_long_enough() -> None:
    assert next_at(9, turns(A), member(A), waiting(B)) == {A}
    assert next_at(10, turns(A), member(A), waiting(B)) == {B}


def test_the_least_recently_used_goes() -> None:
    used = member(A, awake=2, used_at=after(40)), member(B, awake=2, used_at=after(30))
    assert next_at(60, turns(A, B), *used, waiting(C, awake=2)) == {A, C}


def test_one_that_is_asked_goes_only_when_its_turn_is_over_and_somebody_waits() -> None:
    busy = member(A, busy=True)
    assert next_at(59, turns(A), busy, waiting(B)) == {A}
    assert next_at(60, turns(A), busy, waiting(B)) == {B}
    assert next_at(600, turns(A), busy, member(B)) == {A}


def test_the_longest_wait_comes_first() -> None:
    assert next_at(30, turns(A), member(A), waiting(B, after(5)), waiting(C, after(4))) == {C}


def test_a_free_place_is_given_at_once_and_nobody_goes_for_it() -> None:
    assert next_at(0, turns(A), member(A, awake=2), waiting(B, awake=2)) == {A, B}
    assert next_at(0, turns(), waiting(B)) == {B}


def test_nothing_changes_while_the_last_change_is_under_way_or_one_settles() -> None:
    assert next_at(600, turns(A, clear=False), member(A), waiting(B)) == {A}
    assert next_at(600, turns(A), member(A, settling=True), waiting(B)) == {A}


def test_being_awake_counts_from_when_it_was_ready() -> None:
    assert next_at(100, turns(A), member(A, ready_at=after(95)), waiting(B)) == {A}


def test_one_that_never_started_starts_when_nobody_is_asked_for_and_for_it_no_busy_one_goes() -> None:
    assert next_at(100, turns(A), member(A), member(B, to_start=True)) == {B}
    assert next_at(100, turns(A), member(A, busy=True), member(B, to_start=True)) == {A}
    assert next_at(100, turns(A), member(A), member(B, to_start=True), waiting(C)) == {C}


def test_who_left_the_pool_has_no_turn_and_the_others_must_be_seen_asleep_again() -> None:
    assert next_turns(turns(A, B), [member(A, awake=2)], NOW) == turns(A, clear=False)


def test_a_pool_that_became_smaller_sends_one_to_sleep() -> None:
    assert next_at(20, turns(A, B), member(A, busy=True), member(B)) == {A}
    assert next_at(20, turns(A, B), member(A, busy=True), member(B, busy=True)) == {B}


def test_a_free_place_is_not_left_empty_though_nobody_asks() -> None:
    assert next_at(0, turns(), member(A), member(B)) == {A}


def test_one_that_cannot_sleep_has_its_turn_back_in_place_of_the_last_to_come() -> None:
    late = Turns(awake=(Turn(service=A, since=NOW), Turn(service=B, since=after(5))))
    assert given_back(late, C, after(9)) == Turns(awake=(Turn(service=A, since=NOW), Turn(service=C, since=after(9))))


def sharing(**changes: Any) -> None:
    able = {"flags": {"enable-sleep-mode": True}, "env": {"VLLM_SERVER_DEV_MODE": "1"}}
    a_spec(**{"engine": a_spec().engine.evolve(**able), "shares": OPTIONS, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"engine": a_spec().engine}, "shares needs engine.flags enable-sleep-mode"),
        ({"initial_replicas": 2}, "one replica"),
        ({"autoscale": a_spec().autoscale.evolve(enabled=True)}, "autoscale.enabled"),
        ({"shares": OPTIONS.evolve(awake=2)}, "gpu-memory-utilization of at most 0.50, it is 0.9"),
    ],
)
def test_what_cannot_share_is_refused_with_what_is_allowed(changes: dict[str, Any], says: str) -> None:
    sharing()
    with pytest.raises(ValidationError, match=says):
        sharing(**changes)


def test_a_turn_is_no_shorter_than_the_least_time_awake() -> None:
    with pytest.raises(ValidationError, match="turn_s 5 is below"):
        ShareOptions(pool="small", turn_s=5, min_awake_s=10)
