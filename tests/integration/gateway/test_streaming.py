"""Streams reach the client unchanged, at once, and end well or with an error event."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from tests.integration.gateway.harness import CHAT, Gateway, chat, gateway, revision
from tests.integration.gateway.upstream import (
    DONE,
    FINISH,
    USAGE,
    cut_after,
    held,
    pieces,
    slowly,
    stream_bytes,
    token_event,
    upstream,
)


def last_event(body: bytes) -> Any:
    return json.loads(body.rstrip().split(b"\n\n")[-1].removeprefix(b"data: "))


async def test_a_stream_arrives_byte_for_byte(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        status, body, headers = await gw.post(chat())
    assert (status, body) == (200, stream_bytes(3))
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["X-Fleetune-Revision"] == "rev-a"


async def test_odd_pieces_are_put_together_unchanged(tmp_path: Path) -> None:
    whole = stream_bytes(4).replace(b"\n\n", b"\r\n\r\n")
    script = pieces(*(whole[i : i + 7] for i in range(0, len(whole), 7)))
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        _, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert body == whole
    assert (record.output_tokens, record.error) == (4, None)


async def test_a_token_is_passed_on_before_the_next_one_exists(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path) as gw, upstream("e1", held(gate, token_event("one"))) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with gw.session.post(gw.url + CHAT, json=chat()) as response:
            assert await response.content.readany() == token_event("one")
            gate.set()
            assert await response.read() == FINISH + DONE


async def test_the_record_tells_timings_and_counts_but_no_text(tmp_path: Path) -> None:
    script = pieces(token_event("secret"), token_event("words"), FINISH, USAGE, DONE)
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        await gw.post(chat(user="somebody"))
        (record,) = await gw.records()
    assert (record.prompt_tokens, record.output_tokens) == (7, 5)
    assert (record.service, record.model, record.revision, record.engine_id) == ("chat", "llama", "rev-a", "e1")
    assert record.weight_percent == 100
    assert (record.ahead, record.cached_blocks) == (0, None)
    assert record.ok
    assert not record.truncated
    assert record.ttft_ms is not None
    assert record.tpot_ms is not None
    assert record.e2e_ms is not None
    assert record.e2e_ms >= record.ttft_ms > 0
    assert "secret" not in record.model_dump_json()
    assert "somebody" not in record.model_dump_json()


async def test_an_answer_in_one_piece_is_passed_on_with_its_usage(tmp_path: Path) -> None:
    answer = b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    async with gateway(tmp_path) as gw, upstream("e1", pieces(answer, content_type="application/json")) as engine:
        await gw.route(revision("rev-a", 100, engine))
        status, body, _ = await gw.post(chat(stream=False))
        (record,) = await gw.records()
    assert (status, body) == (200, answer)
    assert (record.prompt_tokens, record.output_tokens, record.ttft_ms) == (3, 2, None)
    assert record.e2e_ms is not None


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(cut_after(token_event("one")), id="connection broken"),
        pytest.param(pieces(token_event("one")), id="ended without an end mark"),
        pytest.param(cut_after(token_event("one"), b'data: {"choices":[{"del'), id="broken inside an event"),
        pytest.param(pieces(token_event("one"), b'data: {"choices":[{"del'), id="ended inside an event"),
    ],
)
async def test_a_stream_that_breaks_off_ends_in_an_error_event(tmp_path: Path, script: Any) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine, upstream("e2", script) as other:
        await gw.route(revision("rev-a", 100, engine, other))
        status, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert status == 200
    assert body.startswith(token_event("one"))
    assert last_event(body)["error"]["code"] == "truncated"
    assert body.count(b"\n\n") == 2  # one token and the error, no half event
    assert (record.truncated, record.error, record.retries) == (True, "truncated", 0)
    assert len(engine.seen) + len(other.seen) == 1  # never again after the first byte


async def test_a_stream_whose_last_newline_is_missing_ended_well(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", pieces(token_event("one"), b"data: [DONE]\n")) as engine:
        await gw.route(revision("rev-a", 100, engine))
        _, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert body == token_event("one") + DONE
    assert (record.truncated, record.error) == (False, None)


async def test_a_stream_that_stalls_ends_in_an_error_event(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", held(asyncio.Event(), token_event("one"))) as engine:
        await gw.route(revision("rev-a", 100, engine), options=GatewayOptions(stall_timeout_s=0.1))
        _, body, _ = await gw.post(chat())
        (record,) = await gw.records()
        await engine.hung_up.wait()
    assert last_event(body)["error"]["code"] == "upstream_stalled"
    assert (record.truncated, record.error) == (True, "upstream_stalled")


async def test_a_stream_that_moves_now_and_then_is_no_stall_however_long_it_lasts(tmp_path: Path) -> None:
    limit_s, pauses = 2.0, 8
    events = [token_event(str(number)) for number in range(pauses)]
    async with gateway(tmp_path) as gw, upstream("e1", slowly(1.5 * limit_s / pauses, *events)) as engine:
        await gw.route(revision("rev-a", 100, engine), options=GatewayOptions(stall_timeout_s=limit_s))
        _, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert body == b"".join(events) + FINISH + DONE
    assert (record.truncated, record.error) == (False, None)


async def test_an_engine_that_never_begins_is_a_timeout(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", held(asyncio.Event())) as engine:
        await gw.route(revision("rev-a", 100, engine), options=GatewayOptions(first_token_timeout_s=1))
        status, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert (status, json.loads(body)["error"]["code"]) == (504, "upstream_timeout")
    assert (record.error, record.truncated) == ("upstream_timeout", False)
    assert len(engine.seen) == 1


async def test_a_client_that_hangs_up_frees_the_engine_at_once(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", held(asyncio.Event(), token_event("one"))) as engine:
        await gw.route(revision("rev-a", 100, engine))
        await _hang_up_after_first_token(gw)
        await engine.hung_up.wait()
        await gw.until(lambda status: status["in_flight"] == 0 and status["replicas"][0]["in_flight"] == 0)
        (record,) = await gw.records()
    assert (record.client_gone, record.truncated, record.error) == (True, False, None)


async def test_a_client_that_hangs_up_before_the_first_token_frees_the_engine_at_once(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", held(asyncio.Event())) as engine:
        await gw.route(revision("rev-a", 100, engine))
        asking = asyncio.create_task(gw.post(chat()))
        await gw.until(lambda status: status["replicas"][0]["in_flight"] == 1)
        asking.cancel()
        await engine.hung_up.wait()
        await gw.until(lambda status: status["replicas"][0]["in_flight"] == 0)
        (record,) = await gw.records()
    assert (record.client_gone, record.status, record.error) == (True, 499, None)


async def _hang_up_after_first_token(gw: Gateway) -> None:
    async with aiohttp.ClientSession() as session:
        response = await session.post(gw.url + CHAT, json=chat())
        await response.content.readany()
        response.close()


async def test_the_engines_own_error_event_is_passed_on_and_noted(tmp_path: Path) -> None:
    event = b'data: {"error":{"message":"engine dead","code":500}}\n\n'
    async with gateway(tmp_path) as gw, upstream("e1", pieces(token_event("one"), event, DONE)) as engine:
        await gw.route(revision("rev-a", 100, engine))
        _, body, _ = await gw.post(chat())
        (record,) = await gw.records()
    assert body == token_event("one") + event + DONE
    assert (record.error, record.truncated) == ("upstream_error_event", False)
