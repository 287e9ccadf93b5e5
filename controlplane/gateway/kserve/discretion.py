"""Calls that break in our code end without a word of what was asked: gRPC would log it, and send it back.

Said instead are where and what kind of error, in the log, and that the gateway broke, to the client. Messages are read
here too, so that bytes that are none are the client's fault and not ours.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from controlplane.telemetry.logs import places

Call = Callable[[Any, Any], Awaitable[Any]]
StreamCall = Callable[[Any, Any], AsyncIterator[Any]]

_log = logging.getLogger(__name__)


def discreet(call: Call, kind: Any) -> Call:
    """Return the call, guarded. It takes the bytes of a message of this kind."""

    async def guarded(given: bytes, context: Any) -> Any:
        try:
            return await call(await _read(kind, given, context), context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, its message may quote a prompt
            await _broke(error, context)

    return guarded


def discreet_stream(call: StreamCall, kind: Any) -> StreamCall:
    """Return the call, guarded. It takes the bytes of messages of this kind."""

    async def guarded(given: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        requests = (await _read(kind, each, context) async for each in given)
        try:
            async for response in call(requests, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  # as above
            await _broke(error, context)

    return guarded


async def _read(kind: Any, given: bytes, context: Any) -> Any:
    """Return the message, or end the call."""
    try:
        return kind.FromString(given)
    except DecodeError:
        text = f"The message is no {kind.DESCRIPTOR.name}."
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)


async def _broke(error: Exception, context: Any) -> None:
    _log.error("A gRPC call failed: %s at %s", type(error).__name__, " > ".join(places(error)))
    await context.abort(grpc.StatusCode.INTERNAL, "The gateway broke.")
