"""One attempt on one replica, up to the first byte of its answer. Expected failures are return values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec
from multidict import CIMultiDict

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.gateway.call import Call
from controlplane.gateway.engine_connection import BrokenOff, EngineConnection, TookTooLong
from controlplane.gateway.engine_connections import EngineConnections, NotConnected
from controlplane.gateway.pools import Replica

UNAVAILABLE_STATUSES = frozenset({502, 503, 504})


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


class Opened(msgspec.Struct, frozen=True):
    """An answer that began: its first piece for an event stream, all of it otherwise."""

    connection: EngineConnection
    first: bytes
    events: bool

    @property
    def status(self) -> int:
        return self.connection.status

    @property
    def headers(self) -> CIMultiDict[str]:
        return self.connection.headers


async def open_upstream(
    engines: EngineConnections, replica: Replica, call: Call, options: GatewayOptions
) -> Opened | AttemptFailed:
    """Send the request and wait for the answer to begin. The caller gives `Opened.connection` back."""
    limit_s = options.first_token_timeout_s if call.stream else options.response_timeout_s
    try:
        return await _begin(engines, replica, call, options, limit_s)
    except NotConnected:
        return AttemptFailed(FailureKind.CONNECT, 502, "The engine could not be reached.")
    except TookTooLong:
        return AttemptFailed(FailureKind.TIMEOUT, 504, f"The engine did not answer within {limit_s:g} s.")
    except BrokenOff:
        return AttemptFailed(FailureKind.DISCONNECTED, 502, "The engine broke the connection before it answered.")


async def _begin(
    engines: EngineConnections, replica: Replica, call: Call, options: GatewayOptions, limit_s: float
) -> Opened | AttemptFailed:
    target = f"{call.path}?{call.query}" if call.query else call.path
    connection = await engines.ask(
        replica.backend.url, target, _headers(replica, call), call.body, connect_s=options.connect_timeout_s
    )
    connection.give(limit_s)
    try:
        return await _first_piece(connection)
    except BaseException:  # cancelled or broken: the engine must learn at once that nobody listens
        connection.close()
        raise
    finally:
        connection.give(None)


async def _first_piece(connection: EngineConnection) -> Opened | AttemptFailed:
    await connection.answered()
    if connection.status in UNAVAILABLE_STATUSES:
        connection.close()
        return AttemptFailed(FailureKind.STATUS, connection.status, f"The engine answered {connection.status}.")
    kind = connection.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if connection.status != 200 or kind != "text/event-stream":
        return Opened(connection, await connection.read_all(), events=False)
    first = await connection.read()
    if first:
        return Opened(connection, first, events=True)
    connection.close()
    return AttemptFailed(FailureKind.DISCONNECTED, 502, "The engine ended the stream before its first byte.")


def _headers(replica: Replica, call: Call) -> CIMultiDict[str]:
    key = replica.backend.api_key
    return call.headers if key is None else CIMultiDict(call.headers, Authorization=f"Bearer {key}")
