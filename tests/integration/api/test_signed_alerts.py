"""Alerts that carry a signature instead of a key: of now, over the very bytes, or refused."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.domain.door.identity import Grant, Scope
from controlplane.services.keys import create_key
from tests.builders_serving import NOW, a_service
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api, problem
from tests.integration.api.test_alerts import webhook

SECRET = "a secret of the operator's"


@pytest.fixture
def store() -> FakeStore:
    """A store with a key: who has neither key nor signature is nobody."""
    store = FakeStore()
    store.save_service(a_service(), 0)
    create_key(store, "ops", Grant(scopes=(Scope.ADMIN,)), actor="test", now=NOW)
    return store


@pytest.fixture
def api(store: FakeStore) -> TestClient:
    return an_api(store, alert_secret=lambda: SECRET)


def send(
    api: TestClient, *, secret: str = SECRET, at_s: float = 0, body: dict[str, Any] | None = None, **headers: Any
) -> Any:
    content, timestamp = json.dumps(body or webhook()).encode(), str(int(NOW.timestamp() + at_s))
    signed = hmac.new(secret.encode(), f"{timestamp}:".encode() + content, hashlib.sha256).hexdigest()
    told = {"X-Fleetune-Timestamp": timestamp, "X-Fleetune-Signature": signed} | headers
    return api.post("/alerts", content=content, headers={"Content-Type": "application/json"} | told)


def test_a_signed_alert_is_taken_and_sent_again_it_changes_nothing(api: TestClient, store: FakeStore) -> None:
    assert [send(api, at_s=at_s).status_code for at_s in (0, -299, 299)] == [200, 200, 200]
    [event] = store.list_events(service="chat")
    assert (event.action, event.actor) == ("alert.fired", "signed-webhook")


def test_grafana_s_own_body_is_taken_too(api: TestClient, store: FakeStore) -> None:
    grafana = webhook() | {"version": "1", "orgId": 1, "title": "[FIRING:1]", "state": "alerting"}
    assert send(api, body=grafana).status_code == 200
    assert [each.action for each in store.list_events(service="chat")] == ["alert.fired"]


@pytest.mark.parametrize("at_s", [-301, 301, -86_400])
def test_a_signature_of_another_time_is_refused(api: TestClient, store: FakeStore, at_s: float) -> None:
    assert "not of now" in problem(send(api, at_s=at_s), 401)["detail"]
    assert not store.list_events(service="chat")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Fleetune-Signature": "0" * 64},
        {"X-Fleetune-Signature": ""},
        {"X-Fleetune-Timestamp": ""},
        {"X-Fleetune-Timestamp": "now"},
        {"X-Fleetune-Timestamp": "-5"},
        {"X-Fleetune-Timestamp": "9" * 5000},
        {"X-Fleetune-Timestamp": str(int(NOW.timestamp()) + 1)},  # moved on, with the signature of before
    ],
)
def test_what_is_not_signed_so_is_refused(api: TestClient, store: FakeStore, headers: dict[str, Any]) -> None:
    problem(send(api, **headers), 401)
    assert not store.list_events(service="chat")


def test_another_secret_and_another_body_are_refused_and_the_secret_is_told_to_nobody(api: TestClient) -> None:
    wrong = send(api, secret="another secret altogether")
    assert SECRET not in wrong.text + str(wrong.headers)
    problem(wrong, 401)
    timestamp = str(int(NOW.timestamp()))
    signed = hmac.new(SECRET.encode(), f"{timestamp}:{{}}".encode(), hashlib.sha256).hexdigest()
    headers = {"X-Fleetune-Timestamp": timestamp, "X-Fleetune-Signature": signed}
    problem(api.post("/alerts", json=webhook(), headers=headers), 401)


@pytest.mark.parametrize("secret", [None, "", "short"])
def test_where_no_secret_or_a_guessable_one_is_known_no_signature_counts(store: FakeStore, secret: str | None) -> None:
    problem(send(an_api(store, alert_secret=lambda: secret), secret=secret or ""), 401)


def test_a_signature_opens_nothing_else(api: TestClient) -> None:
    timestamp = str(int(NOW.timestamp()))
    signed = hmac.new(SECRET.encode(), f"{timestamp}:".encode(), hashlib.sha256).hexdigest()
    headers = {"X-Fleetune-Timestamp": timestamp, "X-Fleetune-Signature": signed}
    problem(api.get("/services", headers=headers), 401)
    problem(api.post("/services/chat/stop", headers=headers), 401)
