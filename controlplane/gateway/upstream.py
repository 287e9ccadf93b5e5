"""One attempt on one replica, up to the first byte of its answer. Expected failures are return values."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.gateway.call import Call
from controlplane.gateway.pools import Replica

UNAVAILABLE_STATUSES = frozenset({502, 503, 504})

# Servers of the uvicorn kind close idle connections after 5 s; ours go first, so no request meets a closing one.
KEEPALIVE_S = 3.0


class FailureKind(StrEnum):
    """Why an attempt failed before its first byte; also the record's `error`."""

    CONNECT = "upstream_connect"
    DISCONNECTED = "upstream_disconnected"
    STATUS = "upstream_5xx"
    TIMEOUT = "upstream_timeout"
    NO_REPLICA = "no_replica"  # there was nothing to try
    GATEWAY_STOPPED = "gateway_stopped"  # the drain's time was over


@dataclass(frozen=True)
class AttemptFailed:
    """An attempt that sent the client nothing. `status` is what the client gets when no other attempt follows."""

    kind: FailureKind
    status: int
    message: str

    @property
    def retryable(self) -> bool:
        """A replica that is merely slow is not asked twice: the work would be done twice under overload."""
        return self.kind is not FailureKind.TIMEOUT


@dataclass(frozen=True)
class Opened:
    """An answer that began: its first piece for an event stream, all of it otherwise."""

    response: aiohttp.ClientResponse
    first: bytes
    events: bool

    def close(self) -> None:
        """Let go of the connection: kept for the next request when the answer was read to its end, else closed."""
        if not self.response.content.at_eof():
            self.response.close()
        self.response.release()


def open_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Return a client for long streams: no limits of its own, nothing decoded, no cookies, no proxies.

    `tls` is for engines at https; None trusts whom the system trusts.
    """
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=KEEPALIVE_S, ssl=tls or True)
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("User-Agent",),
        max_field_size=64 << 10,
    )


async def open_upstream(
    session: aiohttp.ClientSession, replica: Replica, call: Call, options: GatewayOptions
) -> Opened | AttemptFailed:
    """Send the request and wait for the answer to begin. The caller closes `Opened.response`."""
    limit_s = options.first_token_timeout_s if call.stream else options.response_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            return await _begin(session, replica, call, options)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        return AttemptFailed(FailureKind.CONNECT, 502, "The engine could not be reached.")
    except TimeoutError:
        return AttemptFailed(FailureKind.TIMEOUT, 504, f"The engine did not answer within {limit_s:g} s.")
    except (aiohttp.ClientError, ConnectionError):
        return AttemptFailed(FailureKind.DISCONNECTED, 502, "The engine broke the connection before it answered.")


async def _begin(
    session: aiohttp.ClientSession, replica: Replica, call: Call, options: GatewayOptions
) -> Opened | AttemptFailed:
    response = await session.post(
        _url(replica, call),
        data=call.payload(),
        headers=_headers(replica, call),
        allow_redirects=False,
        timeout=_patience(options.connect_timeout_s),
    )
    try:
        return await _first_piece(response)
    except BaseException:  # cancelled or broken: the engine must learn at once that nobody listens
        response.close()
        raise


@lru_cache(maxsize=64)
def _patience(connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s)


async def _first_piece(response: aiohttp.ClientResponse) -> Opened | AttemptFailed:
    if response.status in UNAVAILABLE_STATUSES:
        response.close()
        return AttemptFailed(FailureKind.STATUS, response.status, f"The engine answered {response.status}.")
    events = response.status == 200 and response.content_type == "text/event-stream"
    if not events:
        return Opened(response, await response.read(), events=False)
    first = await response.content.readany()
    if first:
        return Opened(response, first, events=True)
    response.close()
    return AttemptFailed(FailureKind.DISCONNECTED, 502, "The engine ended the stream before its first byte.")


def _headers(replica: Replica, call: Call) -> CIMultiDict[str]:
    key = replica.backend.api_key
    return call.headers if key is None else CIMultiDict(call.headers, Authorization=f"Bearer {key}")


def _url(replica: Replica, call: Call) -> URL:
    query = f"?{call.query}" if call.query else ""
    return URL(f"{replica.backend.url.rstrip('/')}{call.path}{query}", encoded=True)
