"""What a request, and a person, say of an arm."""

from __future__ import annotations

import math
from typing import Any

import pytest

from controlplane.domain.ab_tests.counting import Users
from controlplane.domain.ab_tests.metrics import AbMetric, measured
from controlplane.domain.base import RevisionId
from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.slo import LatencyMetric, LatencySlo
from tests.builders_serving import CHAT, NOW

SLOS = (LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500),)
A, B = RevisionId("rev-a"), RevisionId("rev-b")


def record(name: str = "r1", **changes: Any) -> GatewayRecord:
    given: dict[str, Any] = {
        "id": name,
        "at": NOW,
        "gateway": "gw-1",
        "service": CHAT,
        "model": "llama-8b",
        "revision": A,
        "engine_id": "e1",
        "path": "/v1/chat/completions",
        "stream": True,
        "status": 200,
        "ttft_ms": 100.0,
        "tpot_ms": 10.0,
        "e2e_ms": 1000.0,
        "output_tokens": 91,
        "stop": "stop",
    }
    return GatewayRecord(**given | changes)


def score(value: float, name: str = "r1", *, scorer: str = "ann", key: str | None = None) -> Feedback:
    return Feedback(at=NOW, gateway="gw-2", request_id=name, score=value, key=key, scorer=scorer)


def test_an_answer_says_how_fast_how_long_and_why_it_stopped() -> None:
    found = measured(record(stop="length", tool_calls=2, bad_tool_calls=1), SLOS)
    assert found[AbMetric.TTFT] == math.log(100)
    assert found[AbMetric.LENGTH] == math.log(91)
    assert (found[AbMetric.CUT_BY_LENGTH], found[AbMetric.DECLINED], found[AbMetric.TOOL_CALLS_VALID]) == (1, 0, 0)
    assert (found[AbMetric.SLO_MISSES], found[AbMetric.ERRORS]) == (0, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"retried": True},
        {"replayed": True},
        {"error": "gateway_stopped", "status": 503},
        {"client_gone": True, "ttft_ms": None, "tpot_ms": None, "e2e_ms": 50.0},
        {"status": 429, "error": "too_many_requests", "engine_id": None},
    ],
)
def test_what_says_nothing_of_an_engine_says_nothing_of_an_arm(changes: dict[str, Any]) -> None:
    assert not measured(record(**changes), SLOS)


def test_a_broken_answer_is_an_error_and_a_miss_and_has_no_latency() -> None:
    found = measured(record(status=502, error="upstream_5xx", ttft_ms=None, tpot_ms=None, stop=None), SLOS)
    assert found == {AbMetric.ERRORS: 1, AbMetric.SLO_MISSES: 1}


def test_an_answer_whose_end_nobody_saw_is_not_counted_as_stopped_by_itself() -> None:
    assert AbMetric.DECLINED not in measured(record(stop=None), SLOS)


def test_a_user_counts_once_and_stays_with_the_arm_that_served_first() -> None:
    users = Users((A, B), SLOS)
    for number, revision in enumerate((A, A, B)):
        users.add(record(f"r{number}", session="ann", revision=revision, stop="length" if number else "stop"))
    users.add(record("r9", session="bob", revision=B))
    users.add(record("r10", revision=RevisionId("rev-of-nobody")))
    assert [(each.users, each.requests) for each in users.arms.values()] == [(1, 2), (1, 1)]
    assert users.crossed == 1
    assert users.arms[A].means[AbMetric.CUT_BY_LENGTH].mean == 0.5


def test_requests_without_a_user_are_users_of_their_own() -> None:
    users = Users((A, B), SLOS)
    for number in range(3):
        users.add(record(f"r{number}"))
    assert users.arms[A].users == 3


def test_a_score_finds_its_request_whichever_comes_first_and_a_second_one_replaces_it() -> None:
    users = Users((A, B), SLOS)
    users.score(score(0.2, "r1"))
    users.add(record("r1", session="ann"))
    users.add(record("r2", session="ann"))
    users.score(score(0.0, "r1"))
    users.score(score(1.0, "r2"))
    users.score(score(1.0, "r2", scorer="bob"))
    found = users.arms[A]
    assert found.scores == 3
    assert found.means[AbMetric.FEEDBACK].users == 1
    assert found.means[AbMetric.FEEDBACK].mean == pytest.approx(2 / 3)


def test_a_score_counts_only_for_requests_of_the_same_key() -> None:
    users = Users((A, B), SLOS)
    users.add(record("r1", key="team-a"))
    users.score(score(1.0, "r1", key="team-b"))
    users.score(score(1.0, "unknown", key="team-a"))
    assert users.arms[A].scores == 0
