"""Another replica is tried while the client has received nothing; never afterwards."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.routing import Backend, RevisionRoute
from controlplane.gateway import breaker
from tests.integration.gateway.harness import chat, gateway, revision
from tests.integration.gateway.upstream import (
    DONE,
    FINISH,
    Script,
    Upstream,
    cut_after,
    pieces,
    slam,
    status,
    stream_bytes,
    token_event,
    upstream,
)

# A port that nothing listens on: 1 is privileged and unassigned on test machines.
DEAD = Upstream("dead", status(200), url="http://127.0.0.1:1")


def lasting(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Let a replica be left alone for longer than a busy machine takes for all of a test's requests."""
    for which in ("FIRST", "LONGEST"):
        monkeypatch.setattr(breaker, f"{which}_{what}_S", 3600.0)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(status(502), "upstream_5xx", id="502"),
        pytest.param(status(503), "upstream_5xx", id="503"),
        pytest.param(status(504), "upstream_5xx", id="504"),
        pytest.param(slam(), "upstream_disconnected", id="connection broken"),
        pytest.param(cut_after(), "upstream_disconnected", id="stream that died before its first byte"),
        pytest.param(pieces(), "upstream_disconnected", id="empty stream"),
    ],
)
async def test_another_replica_makes_good_what_failed_before_the_first_byte(
    tmp_path: Path, script: Script, error: str
) -> None:
    async with gateway(tmp_path) as gw, upstream("bad", script) as bad, upstream("good") as good:
        await gw.route(revision("stable", 1, good), revision("canary", 99, bad))
        while not bad.seen:
            code, body, _ = await gw.post(chat())
            assert (code, body) == (200, stream_bytes(3))
        records = await gw.records(len(good.seen) + 1)
    failed = next(record for record in records if record.retried)
    served = next(record for record in records if record.retries)
    assert (failed.revision, failed.error, failed.ok) == ("canary", error, False)
    assert (served.revision, served.error, served.ok) == ("stable", None, True)
    assert served.ttft_ms is not None
    assert 0 < served.elsewhere_ms <= served.ttft_ms


async def test_a_replica_of_the_same_revision_is_tried_first(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path) as gw,
        upstream("bad", status(503)) as bad,
        upstream("good") as good,
        upstream("other") as other,
    ):
        await gw.route(revision("canary", 99, bad, good), revision("stable", 1, other))
        for _ in range(12):
            await gw.post(chat(user="of-the-canary"))
    assert len(bad.seen) > 0
    assert len(good.seen) == 12
    assert other.seen == []


async def test_a_replica_that_cannot_be_reached_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lasting(monkeypatch, "BACKOFF")
    async with gateway(tmp_path) as gw, upstream("good") as good:
        await gw.route(revision("rev-a", 100, DEAD, good))
        for _ in range(10):
            assert (await gw.post(chat()))[0] == 200
        replicas = {r["engine_id"]: r["put_aside"] for r in (await gw.status())["replicas"]}
        records = await gw.records(11)
    assert replicas == {"dead": True, "good": False}
    assert sum(record.retried for record in records) == 1  # backoff, not one attempt per request


async def test_a_replica_put_aside_is_asked_when_there_is_no_other(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("late") as late:
        await gw.route(revision("rev-a", 100, DEAD))
        code, body, _ = await gw.post(chat())
        assert (code, json.loads(body)["error"]["code"]) == (502, "upstream_connect")
        back = RevisionRoute(
            revision=revision("rev-a", 100).revision,
            weight_percent=100,
            backends=(Backend(engine_id="dead", url=late.url),),
        )
        await gw.route(back, version=2)
        assert (await gw.post(chat()))[0] == 200


async def test_retries_are_bounded(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path) as gw,
        upstream("e1", status(503)) as one,
        upstream("e2", status(503)) as two,
        upstream("e3", status(503)) as three,
    ):
        await gw.route(revision("rev-a", 100, one, two, three), options=GatewayOptions(max_retries=1))
        code, body, headers = await gw.post(chat())
        records = await gw.records(2)
    assert code == 503
    assert json.loads(body)["error"]["type"] == "api_error"
    assert headers["Retry-After"] == "1"
    assert len(one.seen) + len(two.seen) + len(three.seen) == 2
    assert [record.retried for record in records] == [True, False]


async def test_the_only_replica_is_asked_again_after_a_broken_connection(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", slam()) as engine:
        await gw.route(revision("rev-a", 100, engine), options=GatewayOptions(max_retries=1))
        code, _, _ = await gw.post(chat())
    assert code == 502
    assert len(engine.seen) == 2


async def test_an_engine_error_of_its_own_is_passed_on(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", status(500)) as one, upstream("e2", status(500)) as two:
        await gw.route(revision("rev-a", 100, one, two))
        code, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert (code, body) == (500, b'{"error":{"message":"engine says no"}}')
    assert (record.error, record.status, record.retries) == ("upstream_5xx", 500, 0)


async def test_what_the_engine_refuses_counts_against_its_revision(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", status(400)) as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, _, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert (code, record.status, record.error) == (400, 400, "upstream_4xx")


async def test_no_ready_replica_is_a_503(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        await gw.route(revision("rev-a", 100))
        code, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert (code, json.loads(body)["error"]["code"]) == (503, "no_replica")
    assert (record.revision, record.error) == (None, "no_replica")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(status(500), id="500"),
        pytest.param(cut_after(token_event("one")), id="streams that break off"),
        pytest.param(pieces(token_event("x"), b'data: {"error":{"message":"dead"}}\n\n', DONE), id="error events"),
    ],
)
async def test_a_replica_that_fails_fast_does_not_draw_the_traffic(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting(monkeypatch, "EJECTION")

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return await pieces(token_event("x"), FINISH, DONE)(request)

    async with gateway(tmp_path) as gw, upstream("good", slow) as good, upstream("bad", script) as bad:
        await gw.route(revision("rev-a", 100, good, bad))
        at_once = asyncio.Semaphore(8)

        async def one() -> None:
            async with at_once:
                await gw.post(chat())

        await asyncio.gather(*(one() for _ in range(150)))
        ejected = {each["engine_id"]: each["ejected"] for each in (await gw.status())["replicas"]}
    assert ejected == {"good": False, "bad": True}
    assert len(good.seen) + len(bad.seen) == 150
    assert len(bad.seen) <= 5 + 8  # what ejects it, and what was on its way meanwhile


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((1.0, token_event("x"), 0.0, FINISH, DONE), id="late to begin"),
        pytest.param((0.0, token_event("x"), 2.0, *[token_event("y")] * 16, FINISH, DONE), id="slow to go on"),
    ],
)
async def test_a_replica_that_is_far_slower_than_the_others_is_left_alone(
    tmp_path: Path, parts: tuple[float | bytes, ...]
) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await (asyncio.sleep(part) if isinstance(part, float) else response.write(part))
        return response

    quick = pieces(*[token_event("x")] * 17, FINISH, DONE)
    async with gateway(tmp_path) as gw, upstream("e1", quick) as one, upstream("e2", slow) as two:
        await gw.route(revision("rev-a", 100, one, two))
        async with asyncio.timeout(240):
            ejected = False
            while not ejected:
                await asyncio.gather(*(gw.post(chat()) for _ in range(4)))
                ejected = {each["engine_id"]: each["ejected"] for each in (await gw.status())["replicas"]}["e2"]
    assert one.seen


async def test_the_only_replica_is_never_ejected(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("bad", status(500)) as bad:
        await gw.route(revision("rev-a", 100, bad))
        assert [(await gw.post(chat()))[0] for _ in range(12)] == [500] * 12
        assert len(bad.seen) == 12
        bad.script = status(200, b"{}")
        assert (await gw.post(chat()))[0] == 200
