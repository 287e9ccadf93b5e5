"""What the routers share: the collaborators an app was made with, and who is asking."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Generic, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from controlplane.domain.base import Value
from controlplane.domain.door.identity import DEFAULT_TENANT, Principal, Scope, may
from controlplane.domain.errors import Forbidden, Refused, StaleVersion
from controlplane.domain.operations.space import Space
from controlplane.host.addresses import is_loopback
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import JudgedFeed, RecordSource, ScoreFeed
from controlplane.ports.metrics import MetricsSource, OwnMetrics
from controlplane.ports.store import Store
from controlplane.services.keys import key_for, note_use

T = TypeVar("T")
OPEN_ACTOR = "local"
_OWN_SCOPES: Mapping[str, tuple[Scope, ...]] = {"dashboard": (Scope.OPERATE,), "cli": tuple(Scope)}
"""What the installation's own parts may do, whatever keys there are: actor → scopes."""
STALE_ATTEMPTS = 3


class ChecksTokens(Protocol):
    """What knows the tokens of trusted issuers."""

    def check(self, token: str, now: datetime) -> Principal:
        """Return whom a token speaks for. Raises Refused, Forbidden, Unavailable."""


@dataclass(frozen=True)
class Context:
    """The collaborators of one app. `clock` is the installation's, `wall_clock` what other hosts mean by now."""

    store: Store
    records: RecordSource
    fleet_view: FleetView
    clock: Clock
    wall_clock: Clock
    open_without_keys: bool
    trusted_as: str | None
    own_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    gpus: tuple[int, ...] = ()
    tokens: ChecksTokens | None = None
    metrics: MetricsSource | None = None
    own_metrics: OwnMetrics | None = None
    scores: ScoreFeed | None = None
    judged: JudgedFeed | None = None
    space: Callable[[], Space | None] = lambda: None
    passed_s_ago: Callable[[], float | None] = lambda: None
    alert_secret: Callable[[], str | None] = lambda: None

    def own_part(self, given: HTTPAuthorizationCredentials | None) -> str | None:
        """Return which of the installation's own parts asks, None when somebody else does."""
        said = b"" if given is None else given.credentials.encode()
        parts = self.own_secrets.items() if said else ()
        return next((actor for actor, secret in parts if hmac.compare_digest(said, secret.encode())), None)


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
    """Return the documentation of error responses, 401 and 403 always among them."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": _MEANING[status], "content": content} for status in (401, 403, *statuses)}


_MEANING = {
    401: "No valid API key",
    403: "The API key does not reach so far",
    404: "No such thing",
    409: "The present state does not allow it",
    422: "What was given cannot be used",
    503: "Something outside the API did not answer",
}


def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(_context)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most this many, newest first.")]

bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer flt_…`")


@dataclass(frozen=True)
class Caller:
    """Who asks, for whom, and what they may do."""

    name: str
    tenant: str
    scopes: tuple[Scope, ...]

    def require(self, scope: Scope, what: str = "this") -> None:
        """Raise Forbidden unless the caller may."""
        if not may(self.scopes, scope):
            raise Forbidden(
                f"key '{self.name}' may not do {what}",
                why=f"it has the scope {', '.join(self.scopes)}",
                allowed=f"a key with the scope {scope}",
            )


def caller_of(
    request: Request, ctx: Ctx, given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> Caller:
    """Return whose key it is, `local` while none was ever made. Raises Refused."""
    if ctx.trusted_as is not None:
        return Caller(ctx.trusted_as, DEFAULT_TENANT, tuple(Scope))
    own = ctx.own_part(given)
    if own is not None:
        return Caller(own, DEFAULT_TENANT, _OWN_SCOPES[own])
    keys = ctx.store.list_credentials()
    if not keys and ctx.tokens is None:
        _refuse_strangers(request, ctx)
        return Caller(OPEN_ACTOR, DEFAULT_TENANT, tuple(Scope))
    if given is None:
        raise Refused("an API key is needed", allowed="header 'Authorization: Bearer <key>'")
    now = ctx.clock()
    key = key_for((row.value for row in keys if not row.value.is_revoked), given.credentials, now)
    if key is None:
        return _by_token(ctx, given.credentials)
    note_use(ctx.store, key.name, now)
    return Caller(key.name, key.tenant, key.scopes)


def _by_token(ctx: Context, secret: str) -> Caller:
    """Return whom a token of a trusted issuer speaks for. Raises Refused, Forbidden, Unavailable.

    Its times are the issuer's: they are held against the wall clock, which is the one that hosts share.
    """
    if ctx.tokens is None or secret.count(".") != 2:
        raise Refused("this API key is not valid", why="it was revoked, has expired or was never made")
    found = ctx.tokens.check(secret, ctx.wall_clock())
    return Caller(found.name, found.tenant, found.scopes)


CallerOf = Annotated[Caller, Depends(caller_of)]


class Needs:
    """A dependency: the caller's name, once it is known that they have a scope. The scope can be read off a route."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, caller: CallerOf) -> str:
        caller.require(self.scope)
        return caller.name


Reader = Annotated[str, Depends(Needs(Scope.READ))]
Actor = Annotated[str, Depends(Needs(Scope.OPERATE))]
Admin = Annotated[str, Depends(Needs(Scope.ADMIN))]


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
            "an API key is needed",
            why="none exists yet",
            allowed="make one on the host: fleetune key create NAME --scope admin",
        )
    origin = request.headers.get("origin")
    if not is_loopback(request.url.hostname or "") or (origin and not is_loopback(urlsplit(origin).hostname or "")):
        raise Refused("without API keys only this machine may ask", why="the request names another host")
