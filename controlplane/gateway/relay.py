"""Passing an engine's event stream on to the client, piece by piece, while watching it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum

from aiohttp import web

from controlplane.gateway.engine_connection import BrokenOff
from controlplane.gateway.openai_errors import error_event
from controlplane.gateway.passage import Passage, fed, finished
from controlplane.gateway.sse import StreamWatch
from controlplane.gateway.upstream import Opened

LAST_WORDS_S = 1.0


class ClientGone(Exception):
    """The client hung up, or took nothing for as long as a stalled engine would have been allowed to."""


class Cut(StrEnum):
    """Why a stream could not go on; also the error event's code."""

    TRUNCATED = "truncated"  # the engine's connection broke, or ended without an end mark
    STALLED = "upstream_stalled"
    GATEWAY_STOPPED = "gateway_stopped"  # the drain's time was over


_MESSAGES = {
    Cut.TRUNCATED: "The engine broke off in the middle of the answer.",
    Cut.STALLED: "The engine stopped sending in the middle of the answer.",
    Cut.GATEWAY_STOPPED: "The gateway was stopped in the middle of the answer.",
}


class Relay:
    """One stream on its way from an engine to a client."""

    def __init__(
        self,
        downstream: web.StreamResponse,
        watch: StreamWatch,
        passages: Sequence[Passage] = (),
        *,
        stall_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._downstream = downstream
        self._watch = watch
        self._passages = passages
        self._stall_s = stall_s
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._heard_at = 0.0
        self._looking: asyncio.TimerHandle

    async def run(self, opened: Opened) -> Cut | None:
        """Pass everything on; return why it broke off, None when it ended well. Raises ClientGone."""
        try:
            async with asyncio.timeout(None) as stall:
                self._heard_at = self._loop.time()
                self._look(stall)
                await self._copy(opened)
        except TimeoutError:
            if self._watch.delivering:
                raise ClientGone from None
            return Cut.STALLED
        except BrokenOff:
            return None if self._watch.done else Cut.TRUNCATED
        finally:
            self._looking.cancel()
        return None if self._watch.ended or self._watch.failed else Cut.TRUNCATED

    async def last_words(self, cut: Cut, *, named: bool) -> None:
        """End a stream that broke off with an error event, `named` so for clients that need it.

        Raises ClientGone when the client does not take it soon.
        """
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                rest = await finished(self._passages) if self._passages else b""
                await self._write(rest + error_event(_MESSAGES[cut], code=cut.value, named=named))
        except TimeoutError:
            raise ClientGone from None

    def _look(self, stall: asyncio.Timeout) -> None:
        """End a stream in which nothing moved for too long; else look again when that might be."""
        due = self._heard_at + self._stall_s
        if self._loop.time() < due:
            self._looking = self._loop.call_at(due, self._look, stall)
        else:
            stall.reschedule(due)

    async def _copy(self, opened: Opened) -> None:
        read, feed, clock, time = opened.connection.read, self._watch.feed, self._clock, self._loop.time
        chunk = opened.first
        while chunk:
            if whole := feed(chunk, clock()):
                await self._pass(whole)
            self._heard_at = time()  # moving a timer with each token costs more than looking now and then
            chunk = await read()
        if last := self._watch.finish(clock()):
            await self._pass(last)
        if self._passages and (self._watch.ended or self._watch.failed) and (held := await finished(self._passages)):
            await self._write(held)

    async def _pass(self, events: bytes) -> None:
        if self._passages:
            events = await fed(self._passages, events)
        if events:
            await self._write(events)

    async def _write(self, data: bytes) -> None:
        self._watch.delivering = True
        try:
            await self._downstream.write(data)
        except ConnectionError as error:
            raise ClientGone from error
        self._watch.delivering = False
