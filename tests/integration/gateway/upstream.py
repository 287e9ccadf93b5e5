"""A small scripted engine: an OpenAI-like server whose every answer a test decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Upstream:
    """One running engine. `script` decides the next answers; `seen` holds what came in."""

    name: str
    script: Script
    url: str = ""
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    hangups: int = 0  # requests whose caller went away
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    cards: list[dict[str, object]] = field(default_factory=list)  # what it shows of its models

    async def models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": self.cards})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        try:
            return await self.script(request)
        except asyncio.CancelledError:
            self.hangups += 1
            self.hung_up.set()
            raise


@asynccontextmanager
async def upstream(name: str, script: Script | None = None) -> AsyncIterator[Upstream]:
    """Run an engine on a free port; by default it streams three tokens."""
    engine = Upstream(name, script or streaming(3))
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_post("/{rest:.*}", engine.answer)
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1, max_field_size=1 << 20
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield engine
    finally:
        await runner.cleanup()


def token_event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"


def stream_bytes(tokens: int) -> bytes:
    """Return what `streaming(tokens)` sends."""
    return b"".join(token_event(f"t{i}") for i in range(tokens)) + FINISH + DONE


def streaming(tokens: int) -> Script:
    return pieces(*(token_event(f"t{i}") for i in range(tokens)), FINISH, DONE)


def pieces(*parts: bytes, content_type: str = "text/event-stream") -> Script:
    """Send each part as a write of its own."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, content_type)
        for part in parts:
            await response.write(part)
        return response

    return script


def cut_after(*parts: bytes) -> Script:
    """Send the parts, then break the connection without an end."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, "text/event-stream")
        for part in parts:
            await response.write(part)
        await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.abort()
        return response

    return script


def held(gate: asyncio.Event, *before: bytes, after: bytes = FINISH + DONE) -> Script:
    """Send `before`, wait for the gate, send `after`."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, "text/event-stream")
        for part in before:
            await response.write(part)
        await gate.wait()
        await response.write(after)
        return response

    return script


def slowly(pause_s: float, *events: bytes) -> Script:
    """Send events with pauses behind them, and end well."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, "text/event-stream")
        for event in events:
            await response.write(event)
            await asyncio.sleep(pause_s)
        await response.write(FINISH + DONE)
        return response

    return script


def status(code: int, body: bytes = b'{"error":{"message":"engine says no"}}') -> Script:
    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=body, content_type="application/json")

    return script


def slam() -> Script:
    """Break the connection before anything was answered."""

    async def script(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(30)
        return web.Response()

    return script


async def _begin(request: web.Request, content_type: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": content_type})
    await response.prepare(request)
    return response
