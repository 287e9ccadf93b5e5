"""A minimal open-loop client of token streams: connections made beforehand, every read stamped as it comes in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import NamedTuple

_IDLE_S = 3.0


class Request(NamedTuple):
    at_s: float
    prompt_tokens: int
    output_tokens: int


class Seen(NamedTuple):
    """Milliseconds from the scheduled instant."""

    ttft_ms: float
    e2e_ms: float
    tokens: int


class Client:
    """Open loop over connections made beforehand."""

    def __init__(self, port: int, requests: Sequence[Request]) -> None:
        self._port = port
        self._requests = requests
        self._idle: list[Stream] = []

    async def run(self) -> tuple[list[Seen], list[float]]:
        """Return what was seen of each request and how late each was sent (ms)."""
        loop = asyncio.get_running_loop()
        messages = [_message(request) for request in self._requests]
        for _ in range(min(64, len(messages))):
            await self._connect()
        start_s = loop.time() + 0.5
        return await self._send_all(messages, start_s)

    async def _free_stream(self) -> Stream:
        """Return a connection the server will not close under the next request (it closes idle ones after 5 s)."""
        now_s = asyncio.get_running_loop().time()
        while self._idle:
            stream = self._idle.pop()
            if now_s - stream.idle_since_s < _IDLE_S:
                return stream
            stream.close()
        await self._connect()
        return self._idle.pop()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: Stream(self._idle), "127.0.0.1", self._port)
        self._idle.append(stream)

    async def _send_all(self, messages: Sequence[bytes], start_s: float) -> tuple[list[Seen], list[float]]:
        loop = asyncio.get_running_loop()
        waiting, lag_ms = [], []
        for request, message in zip(self._requests, messages, strict=True):
            delay_s = start_s + request.at_s - loop.time()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            lag_ms.append((loop.time() - start_s - request.at_s) * 1e3)
            stream = await self._free_stream()
            waiting.append(stream.send(message, start_s + request.at_s))
        return list(await asyncio.gather(*waiting)), lag_ms


class Stream(asyncio.Protocol):
    """One connection; counts the events of one answer at a time."""

    def __init__(self, idle: list[Stream]) -> None:
        self._idle = idle
        self._done: asyncio.Future[Seen] | None = None
        self.idle_since_s = asyncio.get_running_loop().time()

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._tail = b""

    def send(self, message: bytes, due_s: float) -> asyncio.Future[Seen]:
        self._done = done = asyncio.get_running_loop().create_future()
        self._due_s, self._first_s, self._last_s, self._tokens = due_s, 0.0, 0.0, 0
        self._transport.write(message)
        return done

    def data_received(self, data: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        text = self._tail + data
        events = text.count(b'"token_ids":null}]}\n\n')
        self._tail = text[-18:] if events == 0 else text[text.rindex(b"}]}\n\n") + 5 :][-18:]
        if events:
            self._first_s = self._first_s or now_s
            self._last_s = now_s
            self._tokens += events
        if text.endswith(b"0\r\n\r\n"):
            self._tail = b""
            self.idle_since_s = now_s
            self._idle.append(self)
            ttft_ms, e2e_ms = (self._first_s - self._due_s) * 1e3, (self._last_s - self._due_s) * 1e3
            if self._done is not None:
                self._done.set_result(Seen(ttft_ms, e2e_ms, self._tokens))

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the emulator hung up"))


def _message(request: Request) -> bytes:
    body = json.dumps(
        {
            "prompt": [(17 * k) % 128000 for k in range(request.prompt_tokens)],
            "max_tokens": request.output_tokens,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    return b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
