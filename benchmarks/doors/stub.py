"""The stub engine of the comparison, as cheap as Python allows: `python -m benchmarks.doors.stub` prints its port.

Answers of one piece hold one token. A stream has `max_tokens` events, sent at once, or `X-Per-S` of them a second, the
first after `X-First-Ms`, each with the instant of its sending (CLOCK_MONOTONIC, one for all processes of a host).
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PER_S = re.compile(rb"x-per-s: *([\d.]+)", re.IGNORECASE)
_FIRST_MS = re.compile(rb"x-first-ms: *(\d+)", re.IGNORECASE)
_USAGE = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
_ENDED = {"index": 0, "finish_reason": "stop"}


def _whole(kind: str, **said: object) -> bytes:
    answer = {"id": "c", "object": kind, "created": 1, "model": "stub", "choices": [_ENDED | said], "usage": _USAGE}
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


_CHAT = _whole("chat.completion", message={"role": "assistant", "content": "token"})
_COMPLETION = _whole("text_completion", text="token")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = (
    b'data: {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [{"index": 0, '
    b'"delta": {"content": " token"}, "finish_reason": null}], "sent_ns": %d}\n\n'
)
_END = b"data: [DONE]\n\n"


async def serve() -> None:
    """Serve on a free port of loopback until killed."""
    server = await asyncio.start_server(_talk, "127.0.0.1", 0, backlog=8192, limit=1 << 24)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            if b'"stream":true' in body.replace(b" ", b""):
                paced, first = _PER_S.search(head), _FIRST_MS.search(head)
                await asyncio.sleep(int(first[1]) / 1000 if first else 0)
                await _stream(writer, json.loads(body)["max_tokens"], float(paced[1]) if paced else 0)
            else:
                writer.write(_COMPLETION if b" /v1/completions" in head else _CHAT)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _stream(writer: asyncio.StreamWriter, tokens: int, per_s: float) -> None:
    writer.write(_HEAD)
    due = time.monotonic()
    for _ in range(tokens):
        event = _EVENT % time.monotonic_ns()
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        if per_s:
            due += 1 / per_s
            await asyncio.sleep(due - time.monotonic())
        else:
            await asyncio.sleep(0)  # each a write of its own, as from an engine
    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_END), _END))


if __name__ == "__main__":
    asyncio.run(serve())
