"""The dashboard's client: what it asks, and how it tells a silent API from one that refuses."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from controlplane.domain.schedule import ScheduledAction
from dashboards.client import Address, ApiClient, ApiDown, ApiProblem
from tests.builders_serving import a_service

Answer = Callable[[httpx.Request], httpx.Response]


def a_client(answer: Answer, key: str | None = None) -> ApiClient:
    return ApiClient(Address("http://api:1/", key), transport=httpx.MockTransport(answer))


def test_services_come_back_sorted_by_name() -> None:
    names = ("chat", "batch")
    services = [a_service(name=name).model_dump(mode="json") for name in names]
    client = a_client(lambda _: httpx.Response(200, json={"items": services, "limit": 2}))
    assert [service.name for service in client.services()] == ["batch", "chat"]


def test_the_key_goes_with_every_request() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"items": []})

    client = a_client(answer, key="flt_x")
    client.events(service="chat")
    assert asked[0].headers["authorization"] == "Bearer flt_x"
    assert dict(asked[0].url.params) == {"service": "chat", "limit": "200"}


def test_an_api_that_does_not_answer_is_down() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ApiDown):
        a_client(refuse).services()


def test_a_problem_carries_its_detail_and_status() -> None:
    client = a_client(lambda _: httpx.Response(409, json={"detail": "a rollout is under way"}))
    with pytest.raises(ApiProblem, match="a rollout is under way") as caught:
        client.act("rollouts", "ro-1", "pause", "")
    assert caught.value.status == 409


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b'"x"'])
def test_an_error_that_is_no_problem_document_is_still_one_message(body: bytes) -> None:
    with pytest.raises(ApiProblem, match="answered 502"):
        a_client(lambda _: httpx.Response(502, content=body)).fleet()


@pytest.mark.parametrize("answer", [{"items": [{"colour": "red"}]}, {"other": 1}, [], "text"])
def test_an_answer_of_another_shape_is_named_as_another_version(answer: object) -> None:
    with pytest.raises(ApiProblem, match="another version"):
        a_client(lambda _: httpx.Response(200, json=answer)).services()


def test_an_answer_that_is_not_json_is_named_as_another_version() -> None:
    with pytest.raises(ApiProblem, match="another version"):
        a_client(lambda _: httpx.Response(200, content=b"<html>")).fleet()


def test_a_schedule_is_sent_as_the_api_takes_it() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(201, json={})

    a_client(answer).add_schedule("chat", "weekly", "0 2 * * SUN", ScheduledAction.TUNE)
    body = '{"service":"chat","schedule":{"name":"weekly","cron":"0 2 * * SUN","action":"tune"}}'
    assert asked[0].content.decode() == body
