"""Chats over a WebSocket: a request is a message, each event of its answer a message back.

Each request goes through the pipeline as any other, in the name of who opened the socket. One is answered at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from controlplane.domain.door.identity import Principal
from controlplane.gateway.batches.inside import Inside
from controlplane.gateway.drain import Drain
from controlplane.gateway.events import data_of
from controlplane.gateway.for_engine import with_fields
from controlplane.gateway.openai_errors import RequestRefused, error_body

PATH = "/v1/chat/completions/ws"
KEY_PROTOCOL = "openai-insecure-api-key."
"""A browser cannot set headers on a WebSocket: as in OpenAI's realtime API the key may be offered as a subprotocol."""
PROTOCOL = "chat.completions"

_CHAT = "/v1/chat/completions"
_HEARTBEAT_S = 30.0

Identify = Callable[[web.Request], Awaitable[Principal | None]]
Who = Callable[[], Awaitable[Principal | None]]


@dataclass
class Sockets:
    """The door of WebSockets. `session` reaches the gateway's own pipeline; it is set before the port is open."""

    inside: Inside
    drain: Drain
    origins: tuple[str, ...]
    largest_message_bytes: int
    session: aiohttp.ClientSession | None = None

    def add_to(self, router: web.UrlDispatcher, identify: Identify) -> None:
        """Add the path. Who asks is proven when a socket is opened, and again with each request: keys are revoked."""

        async def handler(request: web.Request) -> web.StreamResponse:
            self._require_origin(request)
            asking = _with_key(request)
            await identify(asking)
            return await self._serve(request, lambda: identify(asking))

        router.add_get(PATH, handler)

    def _require_origin(self, request: web.Request) -> None:
        """Raise RequestRefused (403) for a page nobody allowed: browsers let any page open a socket to any host."""
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self.origins and "*" not in self.origins:
            raise RequestRefused(403, "Pages of this origin may not open sockets here.", code="origin_not_allowed")

    async def _serve(self, request: web.Request, who: Who) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, max_msg_size=self.largest_message_bytes, protocols=(PROTOCOL,)
        )
        if not socket.can_prepare(request).ok:
            raise RequestRefused(426, "This path speaks WebSocket only.", code="upgrade_required")
        await socket.prepare(request)
        closing = asyncio.create_task(self._close_on_drain(socket))
        answering: asyncio.Task[None] | None = None
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    await socket.send_str(_error("A request is a text message.", "invalid_message"))
                elif answering is not None and not answering.done():
                    await socket.send_str(_error("The former request is still being answered.", "busy"))
                else:
                    answering = asyncio.create_task(self._answer(socket, who, message.data))
        finally:
            closing.cancel()
            if answering is not None:  # the client is gone: so is the engine's reason to go on
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
        return socket

    async def _close_on_drain(self, socket: web.WebSocketResponse) -> None:
        await self.drain.requested.wait()
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway ends")

    async def _answer(self, socket: web.WebSocketResponse, who: Who, text: str) -> None:
        assert self.session is not None
        asked = text.strip()
        if not (asked.startswith("{") and asked.endswith("}")):  # the rest is seen where bodies are read, off this loop
            await socket.send_str(_error("A request is a JSON object.", "invalid_json"))
            return
        body = with_fields(asked.encode(), {"stream": True})
        try:
            with self.inside.word_of(await who()) as word:
                headers = {"Authorization": word, "Content-Type": "application/json"}
                async with self.session.post(f"http://inside{_CHAT}", data=body, headers=headers) as response:
                    await _pass_on(response, socket)
        except RequestRefused as refusal:
            await socket.send_str(_error(refusal.message, refusal.code))
        except aiohttp.ClientError:
            await socket.send_str(_error("The answer broke off.", "internal"))
        except ConnectionError:  # the client's: the loop around sees it
            return


async def _pass_on(response: aiohttp.ClientResponse, socket: web.WebSocketResponse) -> None:
    """Send each event's data as a message; an answer in one piece, such as an error, is one."""
    if response.content_type != "text/event-stream":
        await socket.send_str((await response.read()).decode(errors="replace"))
        return
    async for data in data_of(response):
        await socket.send_str(data)


def _with_key(request: web.Request) -> web.Request:
    """Return the request with a key that was offered as a subprotocol where it is looked for."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    keys = [each.strip().removeprefix(KEY_PROTOCOL) for each in offered if each.strip().startswith(KEY_PROTOCOL)]
    if not keys or "Authorization" in request.headers:
        return request
    headers = request.headers.copy()
    headers["Authorization"] = f"Bearer {keys[0]}"
    return request.clone(headers=headers)


def _error(message: str, code: str) -> str:
    return error_body(message, code=code, kind="invalid_request_error").decode()
