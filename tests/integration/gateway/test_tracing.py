"""The way of a request as spans: what the engine is told, what the collector gets, and nothing that people wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.telemetry import tracing
from tests.collector import Collector, collector, told
from tests.integration.gateway.harness import CHAT, chat, gateway, revision
from tests.integration.gateway.upstream import DONE, FINISH, USAGE, pieces, status, token_event, upstream

CLIENTS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
ANSWER = pieces(token_event("planted "), token_event("answer"), FINISH, USAGE, DONE)


@pytest.fixture
def traced() -> Iterator[Collector]:
    with collector() as found:
        tracing.begin("gateway", {tracing.ENDPOINT_VARIABLE: found.url, tracing.SHARE_VARIABLE: "1"})
        yield found
        tracing.end()


async def test_the_engine_goes_on_with_the_clients_trace(traced: Collector, tmp_path: Path) -> None:
    async with upstream("e1", ANSWER) as engine, gateway(tmp_path) as door:
        await door.route(revision("stable", 100, engine))
        async with door.session.post(door.url + CHAT, json=chat(), headers={"traceparent": CLIENTS}) as answer:
            await answer.read()
    tracing.end()
    (request,), (attempt,) = traced.named("request"), traced.named("attempt")
    assert request.trace_id.hex() == attempt.trace_id.hex() == CLIENTS.split("-")[1]
    assert request.parent_span_id.hex() == CLIENTS.split("-")[2]
    assert attempt.parent_span_id == request.span_id
    sent = engine.seen[0].headers["traceparent"]
    assert sent.split("-")[1:3] == [attempt.trace_id.hex(), attempt.span_id.hex()]


async def test_a_request_says_how_it_went_and_not_what_it_was(traced: Collector, tmp_path: Path) -> None:
    async with upstream("e1", ANSWER) as engine, gateway(tmp_path) as door:
        await door.route(revision("stable", 100, engine))
        async with door.session.post(door.url + CHAT, json=chat()) as answer:
            await answer.read()
    tracing.end()
    (request,) = traced.named("request")
    assert told(request) | {"fleetune.service": "chat", "fleetune.status": 200, "fleetune.stream": True} == told(
        request
    )
    assert [event.name for event in request.events] == ["first token"]
    assert request.start_time_unix_nano <= request.events[0].time_unix_nano <= request.end_time_unix_nano
    sent = b"".join(traced.received)
    assert b"secret words" not in sent
    assert b"planted" not in sent


async def test_an_attempt_that_failed_is_a_span_of_its_own(traced: Collector, tmp_path: Path) -> None:
    async with upstream("bad", status(503)) as bad, upstream("good", ANSWER) as good, gateway(tmp_path) as door:
        await door.route(revision("stable", 100, bad, good))
        for _ in range(4):
            async with door.session.post(door.url + CHAT, json=chat()) as answer:
                assert answer.status == 200
                await answer.read()
    tracing.end()
    failed = [span for span in traced.named("attempt") if span.status.code == 2]
    assert failed
    assert {span.status.message for span in failed} == {"upstream_5xx"}
    assert all(span.status.code != 2 for span in traced.named("request"))


async def test_what_the_client_does_not_sample_has_no_spans(traced: Collector, tmp_path: Path) -> None:
    async with upstream("e1", ANSWER) as engine, gateway(tmp_path) as door:
        await door.route(revision("stable", 100, engine))
        async with door.session.post(door.url + CHAT, json=chat(), headers={"traceparent": UNSAMPLED}) as answer:
            await answer.read()
    tracing.end()
    assert traced.spans == []
    assert engine.seen[0].headers["traceparent"].split("-")[1] == UNSAMPLED.split("-")[1]


async def test_a_refused_request_is_told_as_such(traced: Collector, tmp_path: Path) -> None:
    async with gateway(tmp_path) as door:
        await door.route(revision("stable", 100))
        async with door.session.post(door.url + CHAT, json=chat()) as answer:
            assert answer.status == 503
    tracing.end()
    (request,) = traced.named("request")
    assert (told(request)["fleetune.status"], request.status.message) == (503, "no_replica")


async def test_without_a_collector_the_clients_trace_passes_through(tmp_path: Path) -> None:
    async with upstream("e1", ANSWER) as engine, gateway(tmp_path) as door:
        await door.route(revision("stable", 100, engine))
        async with door.session.post(door.url + CHAT, json=chat(), headers={"traceparent": CLIENTS}) as answer:
            await answer.read()
    assert engine.seen[0].headers["traceparent"] == CLIENTS
