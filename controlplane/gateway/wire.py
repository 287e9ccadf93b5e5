"""The HTTP server under both ports, so that nothing a client sent is ever logged or sent back in an error.

aiohttp's own server puts the offending bytes, which may be a prompt or a key, into its log and into the 400 answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from controlplane.gateway.openai_errors import error_response
from controlplane.telemetry.logs import places

LARGEST_HEADER_BYTES = 64 << 10
"""Of one header, and of the request line; beyond it 431. A request has at most 128 headers, aiohttp's own limit."""

HEAD_WITHIN_S = 15.0
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Handler = Callable[[Any], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


class DiscreetProtocol(web.RequestHandler):
    """One connection. Says *that* a request was malformed, or where our code broke, never with what content."""

    __slots__ = ("_head_timer", "_head_within_s")

    def __init__(self, *args: Any, head_within_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_within_s = head_within_s
        self._head_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came. A head that began must end soon: thousands of half ones cost an attacker nothing."""
        count = self._request_count
        super().data_received(data)
        if self._request_count != count:
            self._stop_waiting()
        elif self._head_timer is None and self._current_request is None and not self._messages:
            self._head_timer = self._loop.call_later(self._head_within_s, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self.transport is not None:
            self.transport.write(_TOO_SLOW)
            self.transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP (4xx), or what broke in our code (500), in OpenAI's shape, and close."""
        if status >= 500:
            self.log_exception("A request failed", exc_info=exc)
        else:
            _log.info("a malformed request was refused: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer began already")
        response = _refusal(status, exc)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log where an exception came from, without its message: that may quote what the client sent."""
        error = kw.get("exc_info")
        if isinstance(error, BaseException):
            _log.error("%s: %s at %s", args[0] % args[1:], type(error).__name__, " > ".join(places(error)))
        else:
            _log.error(*args)


class DiscreetRunner(web.AppRunner):
    """Runs an application on `DiscreetProtocol`s; a head that takes longer than `head_within_s` is not waited for.

    `handler` is given the application's and returns the one to use.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        head_within_s: float = HEAD_WITHIN_S,
        handler: Callable[[Handler], Handler] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(app, **kwargs)
        self._head_within_s = head_within_s
        self._handler = handler

    async def _make_server(self) -> web.Server:
        return _DiscreetServer(await super()._make_server(), self._head_within_s, self._handler)


class _DiscreetServer(web.Server):
    def __init__(self, made: web.Server, head_within_s: float, handler: Callable[[Handler], Handler] | None) -> None:
        self._head_within_s = head_within_s
        super().__init__(
            made.request_handler if handler is None else handler(made.request_handler),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )

    def __call__(self) -> web.RequestHandler:
        return DiscreetProtocol(self, loop=self._loop, head_within_s=self._head_within_s, **self._kwargs)


def _refusal(status: int, exc: BaseException | None) -> web.Response:
    if isinstance(exc, LineTooLong):
        text = f"The request line or a header is longer than {LARGEST_HEADER_BYTES} bytes."
        return error_response(431, text, code="headers_too_large")
    if status < 500:
        return error_response(400, "This is not a well-formed HTTP/1.1 request.", code="invalid_http")
    return error_response(status, "The gateway broke.", code="internal")
