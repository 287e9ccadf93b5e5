"""The gateway as a client: of engines, and of what is asked beside clients' requests, cards and classifiers."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from functools import partial

import aiohttp

from controlplane.gateway.background import in_background
from controlplane.gateway.engine_connections import KEEPALIVE_S, EngineConnections
from controlplane.gateway.settings import EngineTls
from controlplane.gateway.tls import client_tls, of_client, renewing


async def open_clients(tls: EngineTls, stack: AsyncExitStack) -> tuple[aiohttp.ClientSession, EngineConnections]:
    """Return what asks for everything else, and what asks engines. Raises InvalidInput for files that are no TLS's."""
    context = client_tls(tls)
    if context is not None:
        await in_background(partial(renewing, context, of_client(tls)), stack)
    engines = EngineConnections(context)
    stack.callback(engines.close)
    return await stack.enter_async_context(_session(context)), engines


def _session(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """Return a client without limits of its own: nothing decoded, no cookies, no proxies."""
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=KEEPALIVE_S, ssl=tls or True)
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("User-Agent",),
        max_field_size=64 << 10,
    )
