"""Chats over a WebSocket: the same answers, limits, errors and records as over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.gateway.sockets import KEY_PROTOCOL, PATH, PROTOCOL
from tests.integration.gateway.harness import Gateway, chat, gateway, revision, table
from tests.integration.gateway.test_limits import key
from tests.integration.gateway.upstream import DONE, FINISH, held, status, token_event, upstream


@asynccontextmanager
async def socket_to(gw: Gateway, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with gw.session.ws_connect(gw.url + PATH, **options) as socket:
        yield socket


async def answer(socket: aiohttp.ClientWebSocketResponse, body: object) -> list[Any]:
    """Ask, and return the messages up to [DONE] or an error."""
    await socket.send_str(body if isinstance(body, str) else json.dumps(body))
    found: list[Any] = []
    while True:
        text = await socket.receive_str()
        if text == "[DONE]":
            return found
        found.append(json.loads(text))
        if "error" in found[-1]:
            return found


def said(messages: list[Any]) -> str:
    return "".join(each["choices"][0]["delta"].get("content", "") for each in messages)


async def test_requests_are_answered_one_after_the_other_and_recorded(tmp_path: Path) -> None:
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", tenant="shop"),)))
        async with socket_to(gw, headers={"Authorization": "Bearer a"}) as socket:
            assert [said(await answer(socket, chat(stream=False))) for _ in range(2)] == ["t0t1t2"] * 2
        records = await gw.records(2)
    assert [(record.key, record.tenant, record.output_tokens, record.stream) for record in records] == [
        ("a", "shop", 3, True)
    ] * 2


async def test_a_message_is_no_more_looked_at_on_its_way_than_a_body_is(tmp_path: Path) -> None:
    """Parsing 32 MiB here would stop every other stream."""
    asked = json.dumps(chat(padding="x" * 100_000), indent=1)
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with socket_to(gw) as socket:
            assert said(await answer(socket, asked)) == "t0t1t2"
            assert [each["error"]["code"] for each in await answer(socket, '{"model": }')] == ["invalid_json"]
    assert engine.bodies == [asked[:-1].rstrip().encode() + b',"stream":true}']


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ({"model": "unknown"}, "model_not_found"),
        ({"messages": []}, "missing_model"),
    ],
)
async def test_errors_are_messages_and_the_socket_lives_on(tmp_path: Path, body: object, code: str) -> None:
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with socket_to(gw) as socket:
            assert [each["error"]["code"] for each in await answer(socket, body)] == [code]
            await socket.send_bytes(b"{}")
            assert json.loads(await socket.receive_str())["error"]["code"] == "invalid_message"
            engine.script = status(503)
            assert (await answer(socket, chat()))[0]["error"]["code"] == "upstream_5xx"


async def test_limits_hold_over_a_socket(tmp_path: Path) -> None:
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", requests_per_minute=1),)))
        async with socket_to(gw, headers={"Authorization": "Bearer a"}) as socket:
            await answer(socket, chat())
            assert (await answer(socket, chat()))[0]["error"]["code"] == "rate_limit_exceeded"


async def test_a_key_that_is_revoked_ends_what_its_socket_may(tmp_path: Path) -> None:
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a"), key("b"))))
        async with socket_to(gw, headers={"Authorization": "Bearer a"}) as socket:
            assert said(await answer(socket, chat())) == "t0t1t2"
            await gw.push(table(revision("rev-a", 100, engine), version=2).evolve(api_keys=(key("b"),)))
            assert (await answer(socket, chat()))[0]["error"]["code"] == "invalid_api_key"
    assert len(engine.seen) == 1


async def test_who_may_open_one(tmp_path: Path) -> None:
    origins = ("https://app.example",)
    async with gateway(tmp_path, websocket=True, cors_origins=origins) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a"),)))
        refused = {
            401: {},
            403: {"headers": {"Authorization": "Bearer a", "Origin": "https://evil.example"}},
        }
        for code, options in refused.items():
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                async with socket_to(gw, **options):
                    pass
            assert raised.value.status == code
        offered = (PROTOCOL, f"{KEY_PROTOCOL}a")  # as a browser can
        async with socket_to(gw, protocols=offered, headers={"Origin": "https://app.example"}) as socket:
            assert socket.protocol == PROTOCOL
            assert said(await answer(socket, chat())) == "t0t1t2"
        async with gw.session.get(gw.url + PATH, headers={"Authorization": "Bearer a"}) as response:
            assert response.status == 426


async def test_a_client_that_leaves_lets_the_engine_go_and_a_second_request_waits_its_turn(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1", held(gate, token_event("x"))) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with socket_to(gw) as socket:
            await socket.send_str(json.dumps(chat()))
            assert "x" in await socket.receive_str()
            await socket.send_str(json.dumps(chat()))
            assert json.loads(await socket.receive_str())["error"]["code"] == "busy"
        async with asyncio.timeout(240):
            await engine.hung_up.wait()
        record = (await gw.records(1))[0]
    assert record.client_gone


async def test_a_gateway_that_ends_says_so(tmp_path: Path) -> None:
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1", held(asyncio.Event(), FINISH + DONE)) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with socket_to(gw) as socket:
            gw.running.drain.request()
            message = await socket.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)


async def test_without_it_the_path_is_unknown(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            async with socket_to(gw):
                pass
    assert raised.value.status == 404
