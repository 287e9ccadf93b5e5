"""Opening a port of the gateway, with TLS where there are files for it."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from controlplane.domain.errors import InvalidInput
from controlplane.gateway.background import in_background
from controlplane.gateway.settings import TlsFiles
from controlplane.gateway.tls import of_server, renewing, server_tls
from controlplane.gateway.wire import LARGEST_HEADER_BYTES, DiscreetRunner, Handler

LINGERING_S = 2.0
"""For so long what still comes of a refused body is read, so that its client gets to read the answer."""


async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    stack: AsyncExitStack,
    tls: TlsFiles | None,
    before_close: Callable[[], Awaitable[None]] | None,
    head_within_s: float,
    handler: Callable[[Handler], Handler] | None = None,
) -> int:
    """Open a port and return its number. On leaving: stop accepting, `before_close`, close what is left.

    `handler` is given the application's and returns the one to use.

    Raises InvalidInput.
    """
    runner = DiscreetRunner(
        app,
        access_log=None,
        head_within_s=head_within_s,
        handler=handler,
        handler_cancellation=True,
        keepalive_timeout=75,
        shutdown_timeout=1,
        lingering_time=LINGERING_S,
        max_line_size=LARGEST_HEADER_BYTES,
        max_field_size=LARGEST_HEADER_BYTES,
        auto_decompress=False,  # `body` does it, bounded and off the event loop
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    context = server_tls(tls)
    if tls is not None and context is not None:
        await in_background(partial(renewing, context, of_server(tls)), stack)
    site = web.TCPSite(runner, host, port, backlog=1024, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    if before_close is not None:
        stack.push_async_callback(before_close)
    stack.push_async_callback(site.stop)
    return _bound_port(runner)


def _bound_port(runner: web.AppRunner) -> int:
    port: int = runner.addresses[0][1]
    return port


def _cannot_listen(host: str, port: int, error: OSError) -> InvalidInput:
    used = error.errno == errno.EADDRINUSE
    return InvalidInput(
        f"cannot listen on {host}:{port}",
        why="the port is in use" if used else os.strerror(error.errno or 0),
        allowed="another port, or 0 for any free one",
    )
