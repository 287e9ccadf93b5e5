"""The admin port tells what is in flight and how long it has waited, while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from controlplane.domain.door.routing import InFlight
from tests.integration.gateway.harness import Gateway, chat, gateway, revision
from tests.integration.gateway.upstream import held, token_event, upstream

_FLIGHTS = TypeAdapter(list[InFlight])


async def told(gw: Gateway) -> Sequence[InFlight]:
    async with gw.session.get(f"{gw.running.address.admin_url}/admin/flights") as response:
        return _FLIGHTS.validate_json(await response.read())


async def test_requests_without_an_answer_are_told_while_they_wait(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", held(asyncio.Event())) as engine:
        await gw.route(revision("rev-a", 100, engine))
        asking = [asyncio.create_task(gw.post(chat(stream=stream))) for stream in (True, True, False)]
        await gw.until(lambda status: status["replicas"][0]["in_flight"] == 3)
        (part,) = await told(gw)
        assert (part.service, part.revision, part.requests) == ("chat", "rev-a", 3)
        assert (len(part.without_token_s), len(part.whole_s)) == (2, 1)
        for each in asking:
            each.cancel()
        await gw.until(lambda status: status["in_flight"] == 0)
        assert await told(gw) == []


async def test_a_stream_that_has_begun_waits_for_its_next_token(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", held(asyncio.Event(), token_event("one"))) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with gw.session.post(gw.url + "/v1/chat/completions", json=chat()) as response:
            await response.content.readany()
            await asyncio.sleep(0.2)
            (part,) = await told(gw)
        assert (part.requests, part.without_token_s) == (1, ())
        ((age_s, silent_s),) = part.begun_s
        assert age_s >= silent_s >= 0.19


async def test_a_client_that_leaves_a_silent_stream_leaves_a_record_of_the_silence(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", held(asyncio.Event(), token_event("one"))) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with gw.session.post(gw.url + "/v1/chat/completions", json=chat()) as response:
            await response.content.readany()
            await asyncio.sleep(0.2)
            response.close()
        (record,) = await gw.records()
        assert record.client_gone
        assert record.silent_ms is not None
        assert record.silent_ms >= 190
        assert await told(gw) == []
