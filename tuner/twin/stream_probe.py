"""One streamed request, timed by a client that costs next to nothing while it is timed.

A client that parses while tokens arrive is late for the tokens of other streams, and the engine looks slow: with a
hundred streams a comfortable HTTP client adds milliseconds to every step. So the bytes are only stamped and kept while
they arrive, and read as HTTP and server-sent events once everything is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import h11
import httpx

CONNECT_AHEAD_S = 0.5
"""Connections are made this long before they are needed, so that connecting is in no latency."""

Piece = tuple[float, bytes]


class StreamTimes(NamedTuple):
    """When a request was really sent and when its tokens came, seconds of `time.perf_counter`."""

    sent_s: float
    token_s: tuple[float, ...]


class _Recorder(asyncio.Protocol):
    """Keeps what arrives and when; `ended` is done when the server has closed the connection."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))

    def connection_lost(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


async def timed_stream(base_url: str, path: str, body: bytes, *, at_s: float) -> StreamTimes:
    """Send `body` at `at_s` (an instant of `time.perf_counter`) and return when its tokens came.

    Raises OSError when the connection fails, ValueError for anything but a complete stream with a token.
    """
    url = httpx.URL(base_url)
    await _until(at_s - CONNECT_AHEAD_S)
    loop = asyncio.get_running_loop()
    port = url.port or (443 if url.scheme == "https" else 80)
    secure = True if url.scheme == "https" else None
    transport, recorder = await loop.create_connection(_Recorder, url.host, port, ssl=secure)
    try:
        parser = h11.Connection(h11.CLIENT)
        request = _request(parser, url, path, body)
        await _until(at_s)
        sent_s = time.perf_counter()
        transport.write(request)
        await recorder.ended
    finally:
        transport.abort()
    return StreamTimes(sent_s, token_times(parser, recorder.pieces))


def token_times(parser: h11.Connection, pieces: Iterable[Piece]) -> tuple[float, ...]:
    """Return when each token event of a recorded response was complete. `parser` must have sent the request.

    Raises ValueError for a status other than 200, what is no HTTP or JSON, a stream cut short, or no token.
    """
    seen: list[float] = []
    text = b""
    try:
        for at_s, data in _bodies(parser, pieces):
            *lines, text = (text + data).split(b"\n")
            seen.extend(at_s for line in lines if _is_token(line))
    except h11.RemoteProtocolError as error:
        raise ValueError(f"the answer is broken: {error}") from error
    if not seen:
        raise ValueError("the stream ended without a token")
    return tuple(seen)


def _bodies(parser: h11.Connection, pieces: Iterable[Piece]) -> Iterator[Piece]:
    status = 200
    for at_s, data in (*pieces, (0.0, b"")):  # nothing at the end is how h11 is told of the closed connection
        parser.receive_data(data)
        while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            match event:
                case h11.Response(status_code=found):
                    status = found
                case h11.Data(data=body) if status == 200:
                    yield at_s, bytes(body)
                case h11.Data(data=body):
                    raise ValueError(f"HTTP {status}: {bytes(body).decode(errors='replace')[:200]}")
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    break
    if status != 200:
        raise ValueError(f"HTTP {status}")


def _request(parser: h11.Connection, url: httpx.URL, path: str, body: bytes) -> bytes:
    headers = {
        "host": url.netloc.decode(),
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    target = url.path.rstrip("/") + path
    head = parser.send(h11.Request(method="POST", target=target, headers=list(headers.items())))
    rest = (parser.send(h11.Data(data=body)), parser.send(h11.EndOfMessage()))
    return b"".join(part or b"" for part in (head, *rest))


def _is_token(line: bytes) -> bool:
    if not line.startswith(b"data:"):
        return False
    data = line.removeprefix(b"data:").strip()
    return data != b"[DONE]" and bool(json.loads(data).get("choices"))


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.perf_counter()))
