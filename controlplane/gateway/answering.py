"""Passing an answer that began on to the client, whole or as a stream, and noting how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from controlplane.gateway.answer_notes import AnswerNotes, notes_of
from controlplane.gateway.call import response_headers
from controlplane.gateway.parsing import parsed
from controlplane.gateway.passage import Passage, whole
from controlplane.gateway.relay import ClientGone, Cut, Relay
from controlplane.gateway.sse import StreamWatch, as_mapping, token_counts
from controlplane.gateway.tally import Tally
from controlplane.gateway.upstream import Opened

REJECTED = "upstream_4xx"  # the engine refused the request; a canary that refuses more than stable does is worse
BROKEN = "upstream_5xx"
REPORTED = "upstream_error_event"  # the engine ended the stream with an error event of its own

MESSAGES = "/v1/messages"  # Anthropic's clients heed an error only in an event of that name

_LARGEST_PARSED_BYTES = 4 << 20  # beyond this (long lists of embeddings) looking for `usage` is not worth the time


@dataclass(frozen=True)
class Answering:
    """Where answers go. `monotonic` in seconds; `stopping` is set when the gateway's drain time is over."""

    monotonic: Callable[[], float]
    stopping: asyncio.Event

    async def pass_on(
        self, request: web.Request, opened: Opened, tally: Tally, *, passages: Sequence[Passage], stall_s: float
    ) -> web.StreamResponse:
        """Send the client the answer. Raises ClientGone when it hangs up; the tally knows how far it came."""
        headers = response_headers(opened.headers, tally.call.request_id, tally.revision or "")
        headers.update(tally.headers)
        tally.status = opened.status
        if not opened.events:
            return await self._whole(opened, headers, tally, passages)
        tally.watch = StreamWatch()
        downstream = web.StreamResponse(headers=headers)
        relay = Relay(downstream, tally.watch, passages, stall_s=stall_s, clock=self.monotonic)
        await _prepare(downstream, request)
        return await self._stream(relay, opened, downstream, tally)

    async def _whole(
        self, opened: Opened, headers: CIMultiDict[str], tally: Tally, passages: Sequence[Passage]
    ) -> web.Response:
        status = opened.status
        tally.ended = self.monotonic()
        tally.usage, tally.notes = read_answer(opened.first)
        tally.error = None if status < 400 else REJECTED if status < 500 else BROKEN
        body = await whole(passages, opened.first) if passages else opened.first
        return web.Response(status=status, body=body, headers=headers)

    async def _stream(
        self, relay: Relay, opened: Opened, downstream: web.StreamResponse, tally: Tally
    ) -> web.StreamResponse:
        try:
            cut = await relay.run(opened)
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            cut = Cut.GATEWAY_STOPPED  # the drain cancelled us: the client is still there and is owed an end
        await self._end(relay, downstream, cut, tally)
        return downstream

    async def _end(self, relay: Relay, downstream: web.StreamResponse, cut: Cut | None, tally: Tally) -> None:
        tally.ended = self.monotonic()
        tally.error = REPORTED if tally.watch and tally.watch.failed else None
        if cut is not None:
            tally.cut(cut)
            await relay.last_words(cut, named=tally.call.path == MESSAGES)
        try:
            await downstream.write_eof()
        except ConnectionError as error:
            raise ClientGone from error


async def _prepare(downstream: web.StreamResponse, request: web.Request) -> None:
    try:
        await downstream.prepare(request)
    except ConnectionError as error:
        raise ClientGone from error


def usage_of(body: bytes) -> Mapping[str, Any] | None:
    """Return an answer's token counts; None when it has none, or is too large to look."""
    return read_answer(body)[0]


def read_answer(body: bytes) -> tuple[Mapping[str, Any] | None, AnswerNotes]:
    """Return an answer's token counts, as `usage_of`, and what is noted of it."""
    if len(body) > _LARGEST_PARSED_BYTES:
        return None, AnswerNotes()
    try:
        answer = as_mapping(parsed(body))
        return token_counts(answer.get("usage")), notes_of(answer)
    except (ValueError, RecursionError):
        return None, AnswerNotes()
