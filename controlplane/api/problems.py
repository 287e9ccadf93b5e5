"""The one place where errors become HTTP: RFC 9457 problem details, never a traceback."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from controlplane.api.context import Problem
from controlplane.domain.errors import Conflict, FleetuneError, Forbidden, InvalidInput, NotFound, Refused, Unavailable

_STATUS: Sequence[tuple[type[FleetuneError], int]] = (
    (InvalidInput, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Forbidden, 403),
    (Refused, 401),
    (Unavailable, 503),
)

log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Make every failure of `app` a problem document."""
    app.add_exception_handler(FleetuneError, _expected)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def problem(status: int, what: str, *, why: str = "", allowed: str = "", error_id: str | None = None) -> JSONResponse:
    """Return one problem document."""
    body = Problem(
        type=f"urn:fleetune:problem:{HTTPStatus(status).phrase.lower().replace(' ', '-')}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=str(FleetuneError(what, why=why, allowed=allowed)),
        what=what,
        why=why,
        allowed=allowed,
        error_id=error_id,
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    content = body.model_dump(exclude_none=True)
    return JSONResponse(content, status_code=status, media_type="application/problem+json", headers=headers)


def _expected(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FleetuneError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return problem(status, error.what, why=error.why, allowed=error.allowed)


def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    why = "; ".join(f"{_place(e['loc'])}: {_reason(e)}" for e in error.errors())
    return problem(422, "the request is not valid", why=why, allowed="see /api/v1/docs")


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(404, f"no such page: {request.url.path}", allowed="see /api/v1/docs")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return problem(405, f"{request.method} is not possible on {request.url.path}", allowed=_methods(request))
    return problem(error.status_code, str(error.detail))


def _methods(request: Request) -> str:
    """Return what is possible there: each method of a path is a route of its own, and Starlette names only one."""
    described = request.app.openapi()["paths"]
    there = (methods for path, methods in described.items() if compile_path(path)[0].match(request.url.path))
    return ", ".join(sorted({method.upper() for methods in there for method in methods})) or "see /api/v1/docs"


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    error_id = uuid.uuid4().hex[:12]
    log.error("error %s at %s %s", error_id, request.method, request.url.path, exc_info=error)
    return problem(500, "something unexpected broke", why=f"look for {error_id} in the API's log", error_id=error_id)


def _place(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location)


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field"
    message: str = error["msg"]
    return message.removeprefix("Value error, ")
