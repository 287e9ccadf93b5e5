"""Errors as OpenAI clients expect them, as a JSON body or as an event in a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web


def error_body(message: str, *, code: str, kind: str = "api_error", param: str | None = None) -> bytes:
    """Return `{"error": {"message", "type", "param", "code"}}` as bytes."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def error_event(message: str, *, code: str, named: bool = False) -> bytes:
    """Return the same as one server-sent event, for a stream that cannot go on; `named` for Anthropic's clients."""
    body = error_body(message, code=code)
    return b'event: error\ndata: {"type": "error", ' + body[1:] + b"\n\n" if named else b"data: " + body + b"\n\n"


def error_response(
    status: int, message: str, *, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error as a response; 4xx are the client's (`invalid_request_error`), 5xx ours (`api_error`)."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "api_error"
    body = error_body(message, code=code, kind=kind, param=param)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


class RequestRefused(Exception):
    """A client's request that cannot be served; becomes `error_response` at the edge."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers or {}

    def response(self) -> web.Response:
        headers = {**self.headers, **({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})}
        return error_response(self.status, self.message, code=self.code, param=self.param, headers=headers)
