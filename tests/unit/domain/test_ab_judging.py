"""What a test concludes, and what it does next."""

from __future__ import annotations

import random

import pytest

from controlplane.domain.ab_tests.ab_test import (
    AB_FINAL,
    AB_TRANSITIONS,
    AbArm,
    AbOptions,
    AbPlan,
    AbState,
    AbTest,
    AbTestId,
    Grade,
)
from controlplane.domain.ab_tests.bounds import Bounds
from controlplane.domain.ab_tests.counting import Users
from controlplane.domain.ab_tests.judging import grade, judge
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.ab_tests.policy import AbFacts, advance, move
from controlplane.domain.base import RevisionId
from controlplane.domain.errors import Conflict
from tests.builders_serving import CHAT, NOW, after
from tests.unit.domain.test_ab_counting import SLOS, record

NAMES = tuple(RevisionId(f"rev-{letter}") for letter in "abc")


def a_test(
    *shares: int, metric: AbMetric = AbMetric.ERRORS, state: AbState = AbState.RUNNING, **options: float
) -> AbTest:
    arms = tuple(
        AbArm(revision=name, share_percent=share, replicas=1)
        for name, share in zip(NAMES, shares or (50, 50), strict=False)
    )
    return AbTest(
        test_id=AbTestId("chat-ab1"),
        service=CHAT,
        arms=arms,
        options=AbOptions(metric=metric, minimum_effect_percent=5, min_hours=0).evolve(**options),
        plan=AbPlan(users_per_arm=1000, baseline=0.1, spread=0.3, from_users=0),
        state=state,
        created_at=NOW,
        created_by="ann",
        started_at=None if state is AbState.STARTING else NOW,
    )


def users(test: AbTest, ratios: dict[str, float], each: int, shares: tuple[float, ...] | None = None) -> Users:
    """Let users ask once, each arm with a ratio of errors of its own."""
    found, chance = Users([arm.revision for arm in test.arms], SLOS), random.Random(1)
    for place, arm in enumerate(test.arms):
        for number in range(round(each * (shares or (1.0,) * 9)[place])):
            failed = chance.random() < ratios[arm.revision]
            bad = {"status": 502, "error": "upstream_5xx", "ttft_ms": None, "tpot_ms": None, "stop": None}
            found.add(record(f"{arm.revision}-{number}", revision=arm.revision, **(bad if failed else {})))
    return found


def test_an_arm_that_is_certainly_better_than_every_other_wins() -> None:
    test = a_test(34, 33, 33)
    found = judge(test, users(test, {"rev-a": 0.2, "rev-b": 0.2, "rev-c": 0.05}, 1000), now=after(9))
    assert found.winner == "rev-c"
    assert len(found.deciding) == 3
    done = advance(test, AbFacts(analysis=found), after(9))
    assert (done.state, done.reason, done.finished_at) == (AbState.CONCLUDED, "rev-c is better", after(9))


def test_nobody_wins_who_does_not_beat_everybody() -> None:
    test = a_test(34, 33, 33)
    found = judge(test, users(test, {"rev-a": 0.3, "rev-b": 0.1, "rev-c": 0.1}, 600), now=after(9))
    assert found.winner is None
    assert not found.alike
    assert advance(test, AbFacts(analysis=found), after(9)).state is AbState.RUNNING


def test_arms_closer_than_the_minimum_effect_end_a_test_too() -> None:
    test = a_test()
    found = judge(test, users(test, {"rev-a": 0.02, "rev-b": 0.02}, 2000), now=after(9))
    assert found.alike
    assert advance(test, AbFacts(analysis=found), after(9)).reason == "no arm differs by 5 or more"


def test_a_split_that_is_not_the_shares_keeps_everything_undecided() -> None:
    test = a_test()
    found = judge(test, users(test, {"rev-a": 0.3, "rev-b": 0.01}, 1000, (1.0, 0.7)), now=after(9))
    assert found.problem == "rev-a got 1000 of 1700 users, 58.8 %, where its share is 50 %"
    assert found.winner is None
    assert advance(test, AbFacts(analysis=found), after(9)).state is AbState.RUNNING
    late = advance(test, AbFacts(analysis=found), after(49 * 3600))
    assert late.state is AbState.CONCLUDED
    assert late.reason.startswith("the arms could not be compared: rev-a got")


def test_a_challenger_that_does_harm_ends_the_test_whatever_is_asked() -> None:
    test = a_test(metric=AbMetric.LENGTH, min_hours=24)
    found = judge(test, users(test, {"rev-a": 0.01, "rev-b": 0.3}, 400), now=after(9))
    done = advance(test, AbFacts(analysis=found), after(9))
    assert done.state is AbState.STOPPED
    assert done.reason.startswith("rev-b has at least")


def test_nothing_is_decided_before_its_time_and_at_the_end_it_is_said_that_it_is_open() -> None:
    test = a_test(min_hours=2, max_hours=3)
    found = judge(test, users(test, {"rev-a": 0.2, "rev-b": 0.05}, 1000), now=after(9))
    assert advance(test, AbFacts(analysis=found), after(3600)).state is AbState.RUNNING
    assert advance(test, AbFacts(analysis=found), after(7200)).reason == "rev-b is better"
    few = judge(test, users(test, {"rev-a": 0.2, "rev-b": 0.05}, 10), now=after(9))
    assert advance(test, AbFacts(analysis=few), after(3 * 3600)).reason.startswith("undecided after 3 h")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (AbFacts(exits=3, exit_reason="out_of_memory"), "exited 3 times: out_of_memory"),
        (AbFacts(refused="no such flag"), "no such flag"),
        (AbFacts(ended="a rollout began"), "a rollout began"),
    ],
)
def test_a_test_that_cannot_go_on_is_stopped_and_says_why(facts: AbFacts, reason: str) -> None:
    for state in (AbState.STARTING, AbState.RUNNING):
        done = advance(a_test(state=state), facts, after(1))
        assert done.state is AbState.STOPPED
        assert reason in done.reason


def test_a_test_waits_for_its_engines_and_for_room_only_so_long() -> None:
    test = a_test(state=AbState.STARTING)
    short = advance(test, AbFacts(shortage="0 GPUs free"), after(0))
    assert short.short_since == after(0)
    assert advance(short, AbFacts(), after(5)).short_since is None
    assert advance(short, AbFacts(shortage="0 GPUs free"), after(599)) is short
    assert advance(short, AbFacts(shortage="0 GPUs free"), after(600)).state is AbState.STOPPED
    begun = advance(short, AbFacts(ready=True), after(7))
    assert (begun.state, begun.started_at) == (AbState.RUNNING, after(7))


def test_what_is_over_stays_over() -> None:
    for state in AB_FINAL:
        assert not AB_TRANSITIONS[state]
        test = a_test(state=state)
        assert advance(test, AbFacts(ended="x"), after(1)) is test
        with pytest.raises(Conflict, match="it is over"):
            move(test, AbState.STOPPED, reason="again", now=after(1))


def test_more_is_not_better_for_everything() -> None:
    more = Bounds(0.2, 0.1, 0.3)
    assert grade(AbMetric.FEEDBACK, more, None) is Grade.BETTER
    assert grade(AbMetric.TTFT, more, None) is Grade.WORSE
    assert grade(AbMetric.LENGTH, more, None) is Grade.DIFFERENT
    assert grade(AbMetric.TTFT, Bounds(0, -0.01, 0.01), None) is Grade.UNDECIDED
    assert grade(AbMetric.TTFT, Bounds(0, -0.01, 0.01), 0.02) is Grade.ALIKE


@pytest.mark.parametrize(("shares", "said"), [((50, 40), "sum to 90"), ((99, 1, 1), "sum to 101")])
def test_shares_that_are_not_everything_are_refused(shares: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        a_test(*shares)
