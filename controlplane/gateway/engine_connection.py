"""One HTTP/1.1 connection to an engine, for one request at a time. What came is handed out as it came, body only.

aiohttp's client took a third of the gateway's time for a short answer: redirects, cookies, proxies and tracing are
looked at with each request, and none of them is wanted here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import cast

import httptools
from multidict import CIMultiDict

LARGEST_HEAD_BYTES = 64 << 10
"""Of an answer: more is no engine's."""

_MOST_UNREAD_BYTES = 256 << 10
_PIECE_BYTES = 256 << 10


class BrokenOff(ConnectionError):
    """The engine closed the connection in the middle, or what it sent was no HTTP."""


class TookTooLong(BrokenOff):
    """What was waited for did not come in time."""


class EngineConnection(asyncio.Protocol):
    """Belongs to one event loop. Ask, wait for the head, read to the end; then it may be asked again."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.complete = True  # nothing was asked yet, or all of the answer came
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._head_bytes = 0
        self._paused = False
        self._lost = False
        self._closed = False  # by us
        self._late = False  # and because what was waited for did not come in time
        self._due: float | None = None  # until when what is waited for has to come
        self._looking: asyncio.TimerHandle | None = None
        self._spoiled = False  # it cannot be asked again
        self._room: asyncio.Future[None] | None = None  # while the engine takes no more
        self._sending: asyncio.Task[None] | None = None

    @property
    def reusable(self) -> bool:
        """Say whether it can be asked now."""
        return self.complete and not self._lost and not self._spoiled and self._sending is None

    def ask(self, head: bytes, body: bytes) -> None:
        """Send a request. A large body goes out in pieces, so that writing it does not hold up other streams."""
        self.status, self.headers, self.complete = 0, CIMultiDict(), False
        self._head_bytes = 0
        if len(body) <= 2 * _PIECE_BYTES:
            self._transport.write(head + body)
            return
        self._transport.write(head)
        self._sending = asyncio.ensure_future(self._send(body))

    async def answered(self) -> None:
        """Wait until status and headers are there. Raises BrokenOff."""
        while not self.status:
            await self._arrival()

    async def read(self) -> bytes:
        """Return what came of the body since, once something has; nothing at its end. Raises BrokenOff."""
        while not self._pieces:
            if self.complete:
                return b""
            await self._arrival()
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unread = 0
        if self._paused and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        return found

    async def read_all(self) -> bytes:
        """Return the whole body. Raises BrokenOff."""
        parts = []
        while part := await self.read():
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close it at once: the engine learns that nobody listens."""
        self._closed = self._spoiled = True
        if self._sending is not None:
            self._sending.cancel()
        self._transport.abort()

    def end_waiting(self) -> None:
        """Close it, and raise TookTooLong where its answer is waited for."""
        self._late = True
        self.close()
        self._wake()

    def give(self, seconds: float | None) -> None:
        """End the waiting, as `end_waiting`, when it takes longer than so from now on; None: nothing is waited for.

        A timer is left to fire, and looks again when the next one is due: one for each answer costs more.
        """
        loop = asyncio.get_running_loop()
        self._due = None if seconds is None else loop.time() + seconds
        if self._due is not None and (self._looking is None or self._looking.when() > self._due):
            self._stop_looking()
            self._looking = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._due is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due:
            self.end_waiting()
        else:
            self._looking = loop.call_at(self._due, self._look)

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of a TCP connection is one

    def data_received(self, data: bytes) -> None:
        if self.complete:  # nothing was asked
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # also what a callback raised
            self.close()
        if self._unread > _MOST_UNREAD_BYTES and not self._paused and not self._lost:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._stop_looking()
        if exc is None and self.status and not self._closed and not self._is_delimited:
            self.complete = True  # the end of the connection is the end of the body
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def on_message_begin(self) -> None:
        if self.complete:  # more than what was asked for
            self._spoiled = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > LARGEST_HEAD_BYTES:
            raise BrokenOff
        if not self.complete:
            self.headers.add(name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an announcement: the answer is still to come
            self.headers = CIMultiDict()
        elif not self.complete:
            self.status = status
            self._spoiled = self._spoiled or not self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._pieces.append(body)
            self._unread += len(body)

    def on_message_complete(self) -> None:
        self.complete = self.complete or bool(self.status)

    @property
    def _is_delimited(self) -> bool:
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        return chunked or "Content-Length" in self.headers

    def _arrival(self) -> Awaitable[None]:
        """Wait until something came. Raises BrokenOff where nothing will, TookTooLong where nothing did in time."""
        if self._late:
            raise TookTooLong
        if self._lost or self._closed:
            raise BrokenOff
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _send(self, body: bytes) -> None:
        view = memoryview(body)
        for at in range(0, len(view), _PIECE_BYTES):
            if self._room is not None:
                await self._room
            if self._lost:
                return
            self._transport.write(view[at : at + _PIECE_BYTES])
        self._sending = None
