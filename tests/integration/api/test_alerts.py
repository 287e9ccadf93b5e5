"""The webhook of an Alertmanager: taken with a key that may operate, read as far as it is needed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.domain.door.identity import Grant, Scope
from controlplane.services.keys import create_key
from tests.builders_serving import NOW, a_service
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api, problem


def webhook(**changes: Any) -> dict[str, Any]:
    """As Alertmanager 0.25 writes it, one alert."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "FleetuneQueueGrows", "service": "chat", "severity": "page"},
        "annotations": {"summary": "more wait\nthan run"},
        "startsAt": "2026-03-01T12:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "abc",
    }
    return {"version": "4", "groupKey": "{}", "receiver": "fleetune", "status": "firing", "alerts": [alert | changes]}


def test_a_firing_is_told_once_in_one_line(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    for _ in range(2):
        assert api.post("/alerts", json=webhook()).status_code == 200
    [event] = store.list_events(service="chat")
    assert (event.action, event.subject, event.reason) == (
        "alert.fired",
        "alert/FleetuneQueueGrows",
        "more wait than run",
    )
    again = api.post("/alerts", json=webhook(startsAt="2026-03-02T12:00:00Z")).json()
    assert again["alerts"][0]["action"] == "tell"


@pytest.mark.parametrize(
    "body",
    [
        webhook(labels={}),
        webhook(labels={"alertname": "x" * 200}),
        webhook(labels={"alertname": "a b; rm"}),
        webhook() | {"version": "3"},
        {"alerts": []},
        {"version": "4", "alerts": "none"},
    ],
)
def test_what_is_no_alert_is_refused(api: TestClient, body: dict[str, Any]) -> None:
    problem(api.post("/alerts", json=body), 422)


def test_a_thousand_alerts_at_once_sent_twice_are_told_once_each(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    many = webhook() | {"alerts": [webhook(fingerprint=str(number))["alerts"][0] for number in range(1000)]}
    answers = [api.post("/alerts", json=many) for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 200]
    told = [sum(alert["action"] == "tell" for alert in each.json()["alerts"]) for each in answers]
    assert told == [1000, 0]
    problem(api.post("/alerts", json=many | {"alerts": [*many["alerts"], *many["alerts"]]}), 422)


def test_one_odd_alert_takes_no_other_of_its_group_along(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    odd = webhook(labels={"alertname": "Disk is full"})["alerts"][0]
    answer = api.post("/alerts", json=webhook() | {"alerts": [odd, *webhook()["alerts"]]}).json()
    assert [each["alert"] for each in answer["alerts"]] == ["FleetuneQueueGrows"]
    (why,) = answer["unread"]
    assert "name 'Disk is full'" in why
    assert "pydantic" not in why
    assert [each.action for each in store.list_events()] == ["alert.fired"]


def test_a_key_that_may_only_read_may_not_send_alerts(store: FakeStore) -> None:
    reading = create_key(store, "r", Grant(scopes=(Scope.READ,)), actor="cli", now=NOW).secret
    operating = create_key(store, "o", Grant(scopes=(Scope.OPERATE,)), actor="cli", now=NOW).secret
    api = an_api(store)
    problem(api.post("/alerts", json=webhook()), 401)
    problem(api.post("/alerts", json=webhook(), headers={"Authorization": f"Bearer {reading}"}), 403)
    assert api.post("/alerts", json=webhook(), headers={"Authorization": f"Bearer {operating}"}).status_code == 200
