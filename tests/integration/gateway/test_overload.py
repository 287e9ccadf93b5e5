"""Twice what the engine takes, a tenth of it vip: who gets the next place, and that nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import accumulate
from pathlib import Path

from aiohttp import web

from tests.integration.gateway.harness import Gateway, chat, gateway
from tests.integration.gateway.test_queue import queued
from tests.integration.gateway.upstream import DONE, FINISH, Upstream, token_event, upstream

PLACES, KEPT = 10, 3  # a third of the places at most: nobody knows yet how many vips come, then seven did
VIPS, A, B, BATCH = 6, 27, 9, 18
WHO = "X-Who"  # an engine sees no keys


class Turns:
    """Lets answers end one by one, in the order in which they were asked."""

    def __init__(self) -> None:
        self._gates: list[asyncio.Event] = []
        self._open = 0

    async def script(self, request: web.Request) -> web.StreamResponse:
        gate = asyncio.Event()
        self._gates.append(gate)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await gate.wait()
        await response.write(token_event("x") + FINISH + DONE)
        return response

    def end_next(self) -> None:
        self._gates[self._open].set()
        self._open += 1


def asking(gw: Gateway, who: str) -> asyncio.Task[tuple[int, bytes, object]]:
    return asyncio.create_task(gw.post(chat(), Authorization=f"Bearer {who}", **{WHO: who}))


async def until_seen(engine: Upstream, requests: int) -> None:
    async with asyncio.timeout(240):
        while len(engine.seen) < requests:  # noqa: ASYNC110  # it is the gateway that asks
            await asyncio.sleep(0.005)


async def test_at_twice_the_load_vips_wait_for_nobody_tenants_share_evenly_and_nothing_is_lost(tmp_path: Path) -> None:
    turns = Turns()
    async with gateway(tmp_path) as gw, upstream("e1", turns.script) as engine:
        await gw.push(queued(engine, PLACES))
        sent = [asking(gw, "gold")]
        await until_seen(engine, 1)
        for who in ["a"] * (PLACES - KEPT - 1) + ["night"] * BATCH + ["a"] * A + ["b"] * B:
            sent.append(asking(gw, who))
            await gw.until(lambda status: status["in_flight"] == len(sent))
        began = PLACES - KEPT  # all that others may have; the rest waits
        assert len(engine.seen) == began
        for _ in range(VIPS):
            sent.append(asking(gw, "gold"))
            await gw.until(lambda status: status["in_flight"] == len(sent))
        await until_seen(engine, PLACES)  # the first of them had their places at once, before anybody's answer ended
        for ended in range(len(sent)):
            turns.end_next()
            await until_seen(engine, min(len(sent), _begun(ended, len(sent))))
        answers = [await each for each in sent]
        records = await gw.records(len(sent))
    assert [status for status, _, _ in answers] == [200] * len(sent)
    assert len({record.id for record in records}) == len(records) == len(sent)
    order = [request.headers[WHO] for request in engine.seen][began:]
    assert Counter(order) == {"gold": VIPS, "night": BATCH, "a": A, "b": B}
    assert order[:VIPS] == ["gold"] * VIPS
    normal = [who for who in order if who in ("a", "b")]
    ahead = list(accumulate(1 if who == "a" else -1 for who in normal[: 2 * B]))
    assert max(map(abs, ahead)) <= 1  # who asks three times as much gets no more while both wait
    until_normal_is_done = order[: len(order) - 1 - order[::-1].index("a")]
    assert until_normal_is_done.count("night") <= (A + B) / 20 + 1  # weights 20 to 1: it gets what is left


def _begun(ended: int, all_of_them: int) -> int:
    """Return how many must have begun, `ended` + 1 being over: places are kept for vips once none of them waits."""
    vips_waiting = VIPS - KEPT
    if ended < vips_waiting:
        return PLACES + ended + 1
    return min(all_of_them, max(PLACES + vips_waiting, PLACES - KEPT + ended + 1))
