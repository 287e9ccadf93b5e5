"""A/B tests over the API, and their command line in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.domain.door.judging import JudgeOptions
from controlplane.services.fleet.serving import register_service
from controlplane.services.models import NewVersion, register_version
from tests.builders_ab import a_judged_test
from tests.builders_serving import CHAT, NOW, a_spec
from tests.fakes.store import FakeStore

ARMS = ("--arm", "stable=50", "--arm", "llama@1=50:1")
KNOWN = ("--baseline", "300", "--spread", "0.6")
START = ("ab", "start", "chat", *ARMS, "--metric", "ttft", "--effect", "10")


@pytest.fixture(autouse=True)
def chat(store: FakeStore) -> None:
    register_service(store, a_spec(), actor="ann", now=NOW)
    register_version(store, "llama", NewVersion("/models/b"), actor="ann", now=NOW)


def test_a_test_is_started_with_its_plan_shown_and_stopped(run: Any) -> None:
    code, shown = run(*START, *KNOWN)
    assert code == 0
    assert "users of the smallest arm find 10 % of ttft with power 0.8 at 95% confidence" in shown
    assert "llama@1 (rev-" in shown
    code, listed = run("ab", "list")
    assert (code, "chat-ab1" in listed, "starting" in listed) == (0, True, True)
    code, said = run(*START, *KNOWN)
    assert (code, "A/B test chat-ab1 is starting" in said) == (2, True)
    code, shown = run("ab", "stop", "chat-ab1", "--reason", "lunch")
    assert (code, "lunch" in shown) == (0, True)


def test_a_judge_decides_only_where_there_is_one_that_somebody_allows(run: Any, store: FakeStore) -> None:
    start = ("ab", "start", "chat", *ARMS, "--metric", "judge", "--effect", "5", "--baseline", "0.5", "--spread", "0.3")
    code, said = run(*start)
    assert (code, "the service has no judge command" in said) == (2, True)
    saved = store.get_service(CHAT)
    for tenants, says in (((), "no tenant allows it"), (("acme",), "points of judge with power 0.8")):
        spec = saved.value.spec.evolve(ab_judge=JudgeOptions(command=("true",), tenants=tenants))
        store.save_service(saved.value.evolve(spec=spec), store.get_service(CHAT).version)
        code, said = run(*start)
        assert says in " ".join(said.split())
    assert code == 0


def test_who_is_better_and_by_how_much_is_said_in_a_line(run: Any, store: FakeStore) -> None:
    store.save_ab_test(a_judged_test(NOW), 0)
    code, shown = run("ab", "show", "chat-ab1")
    assert code == 0
    assert "ttft, llama@2 against stable: better, -9.0 % in [-12.1, -5.8] (282 ms against 310 ms)" in shown
    assert "feedback, llama@2 against stable: undecided, +10.0 points too few users yet" in shown
    assert "1502 users, 5301 requests, 0.42 USD per 1,000; stopped by stop 5301" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (START, "too little is known of ttft to plan a test"),
        ((*START, "--baseline", "300"), "a baseline without its spread plans nothing"),
        (("ab", "start", "chat", "--arm", "stable", "--metric", "ttft", "--effect", "5"), "'stable' is no arm"),
        (("ab", "start", "chat", *ARMS, "--metric", "joy", "--effect", "5"), "metric"),
        (("ab", "start", "chat", *ARMS, "--metric", "ttft", "--effect", "0"), "effect"),
        (("ab", "show", "chat-ab9"), "no A/B test 'chat-ab9'"),
        (("ab", "stop", "chat-ab9"), "no A/B test 'chat-ab9'"),
    ],
)
def test_what_cannot_be_is_one_message(run: Any, words: tuple[str, ...], says: str) -> None:
    code, said = run(*words)
    assert code == 2
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"service": "mail"}, 404, "no service 'mail'"),
        ({"arms": [{"what": "stable", "share_percent": 50}]}, 422, "arms"),
        ({"options": {"metric": "ttft", "minimum_effect_percent": 5, "confidence": 0.5}}, 422, "confidence"),
        ({"prompt": "a secret"}, 422, "prompt"),
    ],
)
def test_a_body_that_cannot_be_used_is_one_problem(
    api: TestClient, body: Mapping[str, Any], status: int, says: str
) -> None:
    arms = [{"what": "stable", "share_percent": 50}, {"what": "llama@1", "share_percent": 50}]
    given: dict[str, Any] = {
        "service": "chat",
        "arms": arms,
        "options": {"metric": "errors", "minimum_effect_percent": 2},
    }
    answered = api.post("/ab-tests", json={**given, **body})
    assert answered.status_code == status
    assert says in answered.text
