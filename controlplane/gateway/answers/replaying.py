"""Sending a kept answer: in one piece, or as the event stream it was."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from controlplane.domain.door.routing import CacheResult
from controlplane.gateway.answering import usage_of
from controlplane.gateway.answers.entry import Entry
from controlplane.gateway.call import REQUEST_ID_HEADER
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.relay import ClientGone
from controlplane.gateway.sse import StreamWatch

CACHE_HEADER = "X-Fleetune-Cache"

_PIECE_BYTES = 64 << 10


async def replay(
    exchange: Exchange, entry: Entry, result: CacheResult, monotonic: Callable[[], float]
) -> web.StreamResponse:
    """Give the client a kept answer and note it. Raises ClientGone when it hangs up."""
    tally = exchange.tally
    tally.cache, tally.status, tally.error = result, 200, None
    headers = {
        **tally.headers,
        "Content-Type": entry.content_type,
        REQUEST_ID_HEADER: tally.call.request_id,
        "X-Fleetune-Revision": entry.revision,
        CACHE_HEADER: result.value,
    }
    if entry.events:
        tally.watch = StreamWatch()
        tally.watch.feed(entry.body, monotonic())
        return await _streamed(exchange.request, web.StreamResponse(headers=headers), entry.body)
    tally.usage, tally.ended = usage_of(entry.body), monotonic()
    return web.Response(body=entry.body, headers=headers)


async def _streamed(request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    try:
        await response.prepare(request)
        for start in range(0, len(body), _PIECE_BYTES):
            await response.write(body[start : start + _PIECE_BYTES])
        await response.write_eof()
    except ConnectionError as error:
        raise ClientGone from error
    return response
