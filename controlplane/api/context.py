"""What the routers share: the collaborators an app was made with, and who is asking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, cast
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from controlplane.domain.base import Value
from controlplane.domain.errors import Refused, StaleVersion
from controlplane.host.addresses import is_loopback
from controlplane.ports import Clock, FleetView, RecordSource, Store
from controlplane.services.keys import key_for, list_keys

T = TypeVar("T")
OPEN_ACTOR = "local"
STALE_ATTEMPTS = 3


@dataclass(frozen=True)
class Context:
    """The collaborators of one app."""

    store: Store
    records: RecordSource
    fleet_view: FleetView
    clock: Clock
    open_without_keys: bool
    trusted_as: str | None


class Page(Value, Generic[T]):
    """A list, newest first unless its description says otherwise."""

    items: tuple[T, ...]
    limit: int


class Problem(BaseModel):
    """RFC 9457 problem details. `what`, `why` and `allowed` are the parts that `detail` is made of."""

    type: str
    title: str
    status: int
    detail: str
    what: str
    why: str = ""
    allowed: str = ""
    error_id: str | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of error responses, 401 always among them."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": _MEANING[status], "content": content} for status in (401, *statuses)}


_MEANING = {
    401: "No valid API key",
    404: "No such thing",
    409: "The present state does not allow it",
    422: "What was given cannot be used",
    503: "Something outside the API did not answer",
}


def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(_context)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most this many, newest first.")]

_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer flt_…`")


def _actor(request: Request, ctx: Ctx, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> str:
    """Return the name of the key, `local` when none exists. Raises Refused."""
    if ctx.trusted_as is not None:
        return ctx.trusted_as
    keys = list_keys(ctx.store)
    if not keys:
        _refuse_strangers(request, ctx)
        return OPEN_ACTOR
    if given is None:
        raise Refused("an API key is needed", allowed="header 'Authorization: Bearer <key>'")
    key = key_for(keys, given.credentials)
    if key is None:
        raise Refused("this API key is not valid", why="it was revoked or never made")
    return key.name


Actor = Annotated[str, Depends(_actor)]


def retry_stale(act: Callable[[], T]) -> T:
    """Do a load-think-save once more when somebody else saved in between; gives up after a few times (409)."""
    for _ in range(STALE_ATTEMPTS - 1):
        try:
            return act()
        except StaleVersion:
            continue
    return act()


def _refuse_strangers(request: Request, ctx: Context) -> None:
    # Without keys anybody who reaches the port may act. A web page in the user's browser reaches loopback ports too,
    # directly (its Origin tells) or under a name that resolves to 127.0.0.1 (the Host tells).
    if not ctx.open_without_keys:
        raise Refused(
            "an API key is needed", why="none exists yet", allowed="make one on the host: fleetune key create"
        )
    origin = request.headers.get("origin")
    if not is_loopback(request.url.hostname or "") or (origin and not is_loopback(urlsplit(origin).hostname or "")):
        raise Refused("without API keys only this machine may ask", why="the request names another host")
