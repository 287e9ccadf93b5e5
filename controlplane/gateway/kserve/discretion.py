"""Calls that break in our code end without a word of what was asked: gRPC would log it, and send it back.

Said instead are where and what kind of error, in the log, and that the gateway broke, to the client.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from controlplane.telemetry.logs import places

Call = Callable[[Any, Any], Awaitable[Any]]
StreamCall = Callable[[Any, Any], AsyncIterator[Any]]

_log = logging.getLogger(__name__)


def discreet(call: Call) -> Call:
    """Return the call, guarded."""

    async def guarded(request: Any, context: Any) -> Any:
        try:
            return await call(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, its message may quote a prompt
            await _broke(error, context)

    return guarded


def discreet_stream(call: StreamCall) -> StreamCall:
    """Return the call, guarded."""

    async def guarded(requests: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in call(requests, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  # as above
            await _broke(error, context)

    return guarded


async def _broke(error: Exception, context: Any) -> None:
    _log.error("A gRPC call failed: %s at %s", type(error).__name__, " > ".join(places(error)))
    await context.abort(grpc.StatusCode.INTERNAL, "The gateway broke.")
