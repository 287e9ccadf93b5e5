"""Answers are given again where they may be, byte for byte, and to nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai
import pytest

from controlplane.domain.base import ServiceName
from controlplane.domain.door.caching import CacheMode, CacheOptions
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.routing import CacheResult
from loadtests.send.trace_record import record_trace
from tests.integration.gateway.harness import MODEL, Gateway, chat, gateway, revision, table
from tests.integration.gateway.test_limits import key
from tests.integration.gateway.upstream import (
    FINISH,
    USAGE,
    cut_after,
    held,
    pieces,
    status,
    stream_bytes,
    token_event,
    upstream,
)
from tests.redis import own_redis

ANSWER = b'{"id":"1","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":5}}'
GREEDY = GatewayOptions(cache=CacheOptions(mode=CacheMode.GREEDY), max_retries=0)


async def ask(gw: Gateway, headers: Mapping[str, str] | None = None, **fields: Any) -> tuple[str | None, bytes]:
    code, body, got = await gw.post(chat(**{"temperature": 0} | fields), **(headers or {}))
    assert code == 200, body
    return got.get("X-Fleetune-Cache"), body


async def test_a_stream_is_given_again_as_the_stream_it_was(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=GREEDY)
        assert await ask(gw) == ("miss", stream_bytes(3))
        code, body, headers = await gw.post(chat(temperature=0))
        records = await gw.records(2)
    assert (code, body, headers["Content-Type"]) == (200, stream_bytes(3), "text/event-stream")
    assert (headers["X-Fleetune-Cache"], headers["X-Fleetune-Revision"]) == ("hit", "rev-a")
    assert len(engine.seen) == 1
    hit = next(record for record in records if record.id == headers["X-Request-Id"])
    assert (hit.cache, hit.revision, hit.engine_id, hit.ok) == (CacheResult.HIT, None, None, True)
    assert (hit.output_tokens, hit.ttft_ms is not None) == (3, True)


async def test_an_answer_in_one_piece_too_and_the_two_forms_are_two_answers(tmp_path: Path) -> None:
    script = pieces(ANSWER, content_type="application/json")
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine), options=GREEDY)
        assert [await ask(gw, stream=False) for _ in range(2)] == [("miss", ANSWER), ("hit", ANSWER)]
        engine.script = pieces(token_event("x"), FINISH, USAGE)
        assert (await ask(gw))[0] == "miss"
        records = await gw.records(3)
    hits = [record for record in records if record.cache is CacheResult.HIT]
    assert [(hit.prompt_tokens, hit.output_tokens) for hit in hits] == [(7, 5)]


async def test_openais_client_reads_a_stream_that_is_given_again(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=GREEDY)
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="x") as client:
            said = []
            for _ in range(2):
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "hello"}], temperature=0, stream=True
                )
                said.append([chunk.choices[0].delta.content async for chunk in stream])
    assert said[0] == said[1]
    assert len(engine.seen) == 1


async def test_tenants_do_not_see_each_others_answers(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        keys = (key("a", "shop"), key("b", "shop"), key("c", "bank"))
        await gw.push(table(revision("rev-a", 100, engine), options=GREEDY).evolve(api_keys=keys))
        found = [(await ask(gw, {"Authorization": f"Bearer {name}"}))[0] for name in "abc"]
    assert found == ["miss", "hit", "miss"]


async def test_promotion_and_roll_back_take_former_answers_away(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as old, upstream("e2") as new:

        async def weights(of_old: int, version: int) -> None:
            parts = [revision("rev-old", of_old, old), revision("rev-new", 100 - of_old, new)]
            await gw.route(*parts, options=GREEDY, version=version)

        await weights(100, 1)
        assert [(await ask(gw))[0] for _ in range(2)] == ["miss", "hit"]
        await weights(0, 2)  # promoted
        assert [(await ask(gw))[0] for _ in range(2)] == ["miss", "hit"]
        assert len(new.seen) == 1
        await weights(100, 3)  # rolled back: what it said before is still what it says
        _, _, headers = await gw.post(chat(temperature=0))
        assert (headers["X-Fleetune-Cache"], headers["X-Fleetune-Revision"]) == ("hit", "rev-old")


async def test_what_a_canary_answers_is_not_kept(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", status(503)) as old, upstream("e2") as new:
        parts = [revision("rev-old", 60, old), revision("rev-new", 40, new)]
        await gw.route(*parts, options=GREEDY.evolve(max_retries=3))
        assert [(await ask(gw))[0] for _ in range(3)] == ["miss"] * 3
    assert len(new.seen) == 3


@pytest.mark.parametrize(
    ("script", "fields"),
    [
        pytest.param(cut_after(token_event("x")), {}, id="cut off"),
        pytest.param(pieces(token_event("x")), {}, id="without an end"),
        pytest.param(pieces(b'data: {"error":{"message":"x"}}\n\n'), {}, id="an error event"),
        pytest.param(pieces(token_event("x"), FINISH), {"tools": [{"type": "function"}]}, id="tools"),
        pytest.param(pieces(token_event("x"), FINISH), {"temperature": 1}, id="sampled"),
        pytest.param(pieces(token_event("x" * 2000), FINISH), {}, id="too large"),
        pytest.param(pieces(token_event("x"), FINISH), {"padding": "x" * 70_000}, id="a large body"),
    ],
)
async def test_what_is_not_whole_or_may_not_be_kept_is_asked_again(tmp_path: Path, script: Any, fields: Any) -> None:
    options = GatewayOptions(cache=CacheOptions(mode=CacheMode.GREEDY, largest_answer_bytes=1000))
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine), options=options)
        for _ in range(2):
            assert (await ask(gw, **fields))[0] in (None, "miss")
    assert len(engine.seen) == 2


async def test_what_finds_no_room_beside_other_answers_under_way_is_passed_on_and_counted(tmp_path: Path) -> None:
    async with gateway(tmp_path, collecting_bytes=100) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=GREEDY)
        assert [await ask(gw) for _ in range(2)] == [("miss", stream_bytes(3))] * 2
        async with gw.session.get(f"{gw.url}/metrics") as response:
            text = await response.text()
    assert "fleetune_gateway_uncollected_total 2.0" in text
    assert "fleetune_gateway_collecting_bytes 0.0" in text


@pytest.mark.parametrize("code", [400, 429, 500])
async def test_errors_are_not_kept(tmp_path: Path, code: int) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", status(code)) as engine:
        await gw.route(revision("rev-a", 100, engine), options=GREEDY)
        assert [(await gw.post(chat(temperature=0)))[0] for _ in range(2)] == [code, code]
    assert len(engine.seen) == 2


async def test_what_a_client_left_in_the_middle_is_not_kept(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path) as gw, upstream("e1", held(gate, token_event("x"))) as engine:
        await gw.route(revision("rev-a", 100, engine), options=GREEDY)
        leaves = asyncio.create_task(ask(gw))
        await gw.until(lambda found: found["replicas"][0]["in_flight"] == 1)
        leaves.cancel()
        await gw.until(lambda found: found["in_flight"] == 0)
        gate.set()
        assert (await ask(gw))[0] == "miss"


async def test_the_caller_has_a_word(tmp_path: Path) -> None:
    options = GatewayOptions(cache=CacheOptions(mode=CacheMode.ON_REQUEST))
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options)

        async def said(word: str | None) -> str | None:
            return (await ask(gw, {"X-Fleetune-Cache": word} if word else {}))[0]

        words = [None, "use", "USE", None, "no", "refresh", "use"]
        assert [await said(word) for word in words] == [None, "miss", "hit", None, None, "miss", "hit"]
        code, body, _ = await gw.post(chat(), **{"X-Fleetune-Cache": "sure"})
        records = await gw.records(8)
        async with gw.session.get(f"{gw.url}/metrics") as response:
            text = await response.text()
    error = json.loads(body)["error"]
    assert (code, error["code"], error["message"]) == (
        400,
        "invalid_header",
        "The header `X-Fleetune-Cache` is none of: use, no, refresh.",
    )
    assert [(r.status, r.error) for r in records if r.error] == [(400, "invalid_header")]
    assert 'fleetune_gateway_cache_total{result="hit",service="chat"} 2.0' in text
    assert len(engine.seen) == 5
    assert all("x-fleetune-cache" not in {name.lower() for name in seen.headers} for seen in engine.seen)


async def test_without_a_cache_nothing_is_kept_and_nothing_said(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        for _ in range(2):
            assert (await ask(gw, {"X-Fleetune-Cache": "use"}))[0] is None
        assert all(record.cache is None for record in await gw.records(2))
    assert len(engine.seen) == 2


async def test_a_hit_takes_no_tokens_of_a_limit_and_is_in_no_trace(tmp_path: Path) -> None:
    script = pieces(token_event("x"), FINISH, USAGE)
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        limited = key("a", tokens_per_minute=600)
        await gw.push(table(revision("rev-a", 100, engine), options=GREEDY).evolve(api_keys=(limited,)))
        for _ in range(5):
            await ask(gw, {"Authorization": "Bearer a"}, max_tokens=500)
        records = await gw.records(5)
    assert ServiceName("chat") == records[0].service
    assert record_trace(records, tmp_path / "trace.jsonl").requests == 1


async def test_gateways_of_one_redis_share_answers_and_serve_on_when_it_is_lost(tmp_path: Path) -> None:
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as redis:
        shared = {"cache_redis_url": redis.url, "cache_answer_within_s": 60}  # a busy machine is no lost Redis
        async with (
            gateway(tmp_path / "1", **shared) as one,
            gateway(tmp_path / "2", **shared) as other,
            upstream("e1") as engine,
        ):
            for gw in (one, other):
                await gw.route(revision("rev-a", 100, engine), options=GREEDY)
            assert [(await ask(gw))[0] for gw in (one, other)] == ["miss", "hit"]
            redis.kill()
            assert [(await ask(gw))[0] for gw in (one, other)] == ["miss", "miss"]
