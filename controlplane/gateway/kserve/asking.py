"""Asking the gateway's own pipeline on behalf of a gRPC call, and saying in gRPC's words what went wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import grpc

from controlplane.gateway.drain import Drain
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.relay import Cut
from controlplane.gateway.sse import as_mapping, parsed_object

_PASSED_ON = frozenset(
    {"authorization", "x-api-key", "api-key", "origin", "x-session-id", "x-priority", "x-fleetune-cache"}
    | {"x-request-id", "traceparent", "tracestate"}
)
_TOLD = frozenset({"x-request-id", "x-fleetune-revision", "x-fleetune-cache", "x-fleetune-fallback", "retry-after"})
_TOLD_OF_LIMITS = "x-ratelimit-"

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class CallRefused(Exception):
    """A call that ends with an error: its status, what is said, and what goes with it as metadata."""

    def __init__(self, code: Any, text: str, told: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.told = told or {}


class Answered(NamedTuple):
    """An answer that is no error."""

    response: aiohttp.ClientResponse

    @property
    def revision(self) -> str:
        return self.response.headers.get("X-Fleetune-Revision", "")

    @property
    def told(self) -> dict[str, str]:
        """What goes with the answer as metadata."""
        return _told(self.response)


@dataclass(frozen=True)
class Asker:
    """Reaches the pipeline. `session` is a client of it that nobody else has."""

    session: aiohttp.ClientSession
    drain: Drain

    @asynccontextmanager
    async def asked(
        self, metadata: Mapping[str, Any], method: str, path: str, body: bytes | None = None
    ) -> AsyncIterator[Answered]:
        """Ask in the name of who sent the metadata; on leaving the answer is given up. Raises CallRefused."""
        if self.drain.began:
            raise CallRefused(grpc.StatusCode.UNAVAILABLE, "The gateway ends.")
        headers = {name: value for name, value in metadata.items() if name in _PASSED_ON and isinstance(value, str)}
        headers |= {"Host": "localhost", "Content-Type": "application/json"}
        try:
            async with self.session.request(method, f"http://inside{path}", data=body, headers=headers) as response:
                if response.status >= 400:
                    raise _refused(response, await response.read())
                yield Answered(response)
        except aiohttp.ClientError as error:
            raise CallRefused(grpc.StatusCode.UNAVAILABLE, "The answer broke off.") from error
        except ValueError as error:
            raise CallRefused(grpc.StatusCode.INVALID_ARGUMENT, "The metadata cannot be read.") from error


def of_refusal(refusal: RequestRefused) -> CallRefused:
    """Say in gRPC's words what the gateway refused before it asked itself."""
    return CallRefused(_CODES.get(refusal.status, grpc.StatusCode.UNKNOWN), refusal.message)


def of_event(error: object) -> CallRefused:
    """Say in gRPC's words with which error a stream ended."""
    fields = as_mapping(error)
    stalled = fields.get("code") == Cut.STALLED.value
    code = grpc.StatusCode.DEADLINE_EXCEEDED if stalled else grpc.StatusCode.UNAVAILABLE
    return CallRefused(code, str(fields.get("message") or "The answer broke off."))


def _refused(response: aiohttp.ClientResponse, body: bytes) -> CallRefused:
    error = as_mapping(parsed_object(body).get("error"))
    text = str(error.get("message") or "The request was refused.")
    return CallRefused(_CODES.get(response.status, grpc.StatusCode.UNKNOWN), text, _told(response))


def _told(response: aiohttp.ClientResponse) -> dict[str, str]:
    names = ((name.lower(), value) for name, value in response.headers.items())
    return {name: value for name, value in names if name in _TOLD or name.startswith(_TOLD_OF_LIMITS)}
