"""Guard rails on what answers are like: endless, over at once, by another model; stable's own oddities are left out."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.domain.rollouts.arm import NO_REQUESTS, Arm
from controlplane.domain.rollouts.comparing import Control, Evidence
from controlplane.domain.rollouts.guards import guard
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from tests.builders_serving import CHAT, after

PLAIN: dict[str, Any] = {"ttft_ms": 100, "stop": "stop", "output_tokens": 40, "other_model": False}


def arm(*answers: dict[str, Any], at_s: float = 0, every_s: float = 0) -> Arm:
    seen = Arm((), time_lapse=1.0)
    for number, fields in enumerate(answers):
        seen.add(
            GatewayRecord(
                id=f"r{number}",
                at=after(at_s - every_s * (len(answers) - number)),
                gateway="gw-1",
                service=CHAT,
                model="llama-8b",
                revision=None,
                engine_id="e",
                path="/v1/chat/completions",
                stream=True,
                status=200,
                e2e_ms=200,
                **(PLAIN | fields),
            )
        )
    return seen


def hit(canary: Arm, stable: Arm) -> Analysis | None:
    evidence = Evidence(canary=canary.counts(), stable=stable.counts(), control=Control.CONCURRENT)
    return guard([canary], evidence, RolloutOptions(), after(30), beside=stable)


@pytest.mark.parametrize(
    ("odd", "rail", "said"),
    [
        (
            {"stop": "length"},
            "endless_answers",
            "12 of 15 canary answers run on until their limit",
        ),
        ({"output_tokens": 1}, "degenerate_answers", "are over after a token"),
        ({"other_model": True}, "wrong_model", "name another model"),
    ],
)
def test_odd_answers_abort_within_a_minute_unless_stable_gives_them_too(
    odd: dict[str, Any], rail: str, said: str
) -> None:
    canary = arm(*[odd] * 12, *[{}] * 3)
    found = hit(canary, arm(*[{}] * 20))
    assert found is not None
    assert (found.guard, said in found.reason) == (rail, True)
    assert hit(canary, arm(*[odd] * 12, *[{}] * 8)) is None
    assert hit(arm(*[odd] * 4, *[{}] * 11), arm(*[{}] * 20)) is None, "a quarter is no breakdown"


def test_too_few_answers_on_either_side_say_nothing() -> None:
    odd = {"stop": "length"}
    assert hit(arm(*[odd] * 9), arm(*[{}] * 20)) is None
    assert hit(arm(*[odd] * 20), arm(*[{}] * 9)) is None


def test_requests_of_which_nothing_is_known_say_nothing() -> None:
    """Engines that cannot be told how long to answer carry no reason when replayed to."""
    unknown = {"stop": None, "other_model": None}
    assert hit(arm(*[unknown | {"output_tokens": 1}] * 30), arm(*[{}] * 30)) is None


@pytest.mark.parametrize(
    ("odd", "rail"),
    [
        ({"other_model": True}, "wrong_model"),
        ({"output_tokens": 1}, "degenerate_answers"),
        ({"ttft_ms": None, "output_tokens": None}, "empty_answers"),
    ],
)
def test_a_canary_that_gets_three_requests_a_minute_is_looked_at_too(odd: dict[str, Any], rail: str) -> None:
    """In no minute does it have ten answers: all of them were odd, and it passed every step."""
    assert hit(arm(*[odd] * 9, every_s=20), arm(*[{}] * 20, every_s=10)) is None
    found = hit(arm(*[odd] * 10, every_s=20), arm(*[{}] * 20, every_s=10))
    assert found is not None
    assert found.guard == rail
    assert hit(arm(*[odd] * 20, *[{}] * 5, every_s=20), arm(*[{}] * 20, every_s=10)) is not None
    assert hit(arm(*[odd] * 20, *[{}] * 10, every_s=20), arm(*[{}] * 20, every_s=10)) is None, "it is over"


def test_streams_without_a_token_that_stable_has_too_are_not_the_canary_s() -> None:
    empty = {"ttft_ms": None}
    assert hit(arm(*[empty] * 6, *[{}] * 2, at_s=28), arm(*[{}] * 20, at_s=28)) is not None
    assert hit(arm(*[empty] * 6, *[{}] * 2, at_s=28), arm(*[empty] * 8, *[{}] * 8, at_s=28)) is None


def test_replayed_answers_that_end_after_a_token_although_told_to_go_on_abort_before_any_user() -> None:
    """They are quick, and so they prove any load; users' good answers do not stand for them, nor they for users'."""
    short = {"replayed": True, "stop": "stop", "output_tokens": 1}
    whole = {"replayed": True, "stop": "length"}
    found = hit(arm(*[short] * 12), arm(*[{}] * 20))
    assert found is not None
    assert found.guard == "degenerate_answers"
    assert hit(arm(*[whole] * 40), arm(*[{}] * 20)) is None
    evidence = Evidence(canary=NO_REQUESTS, stable=None, control=Control.CONCURRENT)
    users, sent = arm(*[{"output_tokens": 1}] * 12), arm(*[whole] * 200)
    assert guard([users, sent], evidence, RolloutOptions(), after(30), beside=arm(*[{}] * 20)) is not None
