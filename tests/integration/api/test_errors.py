"""Every failure is one problem document."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from fastapi.testclient import TestClient

from controlplane.api.app import PREFIX
from controlplane.domain.errors import StaleVersion, Unavailable
from controlplane.domain.event import Event
from controlplane.domain.studies.study import Study
from controlplane.ports.store import Versioned
from tests.builders_serving import a_service, a_study
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api, problem
from tests.integration.api.operations import operations


class BrokenStore(FakeStore):
    """A store with a bug, one that is gone, and one where somebody else always saves first."""

    def list_events(self, **_: object) -> Sequence[Event]:
        raise ZeroDivisionError("hidden detail")

    def read_setting(self, name: str) -> Versioned[str] | None:
        if name == "health":
            raise Unavailable("the store does not answer", why="disk full")
        return super().read_setting(name)

    def save_study(self, study: Study, version: int, *, events: Sequence[Event] = ()) -> int:
        if version:
            raise StaleVersion("study was saved by somebody else")
        return super().save_study(study, version, events=events)


def test_an_unknown_page_is_a_problem(api: TestClient) -> None:
    body = problem(api.get("/nothing-here"), 404)
    assert "/api/v1/nothing-here" in body["what"]


def test_an_unknown_method_says_what_is_allowed(api: TestClient) -> None:
    assert problem(api.put("/events"), 405)["allowed"] == "GET"
    assert problem(api.put("/studies"), 405)["allowed"] == "GET, POST"


@pytest.mark.parametrize(
    "path",
    ["/studies/st-9", "/studies/st-9/trials", "/trials/t", "/rollouts/r", "/services/s", "/load-reports/l", "/live/s"],
)
def test_a_thing_that_does_not_exist_is_a_404(api: TestClient, path: str) -> None:
    problem(api.get(path), 404)


def test_an_unknown_field_is_named(api: TestClient) -> None:
    body = problem(api.post("/studies", json={"service": "chat", "colour": "red"}), 422)
    assert "colour: unknown field" in body["why"]


def test_a_body_that_is_not_json_is_a_problem(api: TestClient) -> None:
    headers = {"content-type": "application/json"}
    problem(api.post("/studies", content="{", headers=headers), 422)


@pytest.mark.parametrize("limit", ["0", "-1", "many", "100000"])
def test_a_limit_outside_its_range_is_refused(api: TestClient, limit: str) -> None:
    assert "limit" in problem(api.get("/events", params={"limit": limit}), 422)["why"]


def test_something_unexpected_gives_an_id_that_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        body = problem(an_api(BrokenStore()).get("/events"), 500)
    assert "hidden detail" not in str(body)
    assert body["error_id"] in caplog.text


def test_a_store_that_is_gone_is_a_503() -> None:
    assert problem(an_api(BrokenStore()).get("/health"), 503)["why"] == "disk full"


def test_a_change_that_keeps_losing_against_others_is_a_409() -> None:
    store = BrokenStore()
    store.save_service(a_service(), 0)
    store.save_study(a_study(), 0)
    problem(an_api(store).post("/studies/st-1/pause", json={}), 409)


def test_the_description_names_every_operation_and_its_errors(api: TestClient) -> None:
    spec = api.get("/openapi.json").json()
    described = {(method.upper(), path): o for path, methods in spec["paths"].items() for method, o in methods.items()}
    assert sorted(described) == sorted((method, f"{PREFIX}{path}") for method, path in operations())
    assert all(o["summary"] for o in described.values())
    guarded = [o for o in described.values() if o["tags"] != ["about"]]
    assert all("application/problem+json" in o["responses"]["401"]["content"] for o in guarded)


def test_the_page_of_operations_works_offline(api: TestClient) -> None:
    page = api.get("/docs").text
    assert "/api/v1/rollouts/{rollout_id}/abort" in page
    assert "<script" not in page
    assert api.get("http://127.0.0.1:8700/").text == page
