"""Requests that carry a signature instead of a key: HMAC-SHA256 over timestamp, colon and body, in hex.

As Grafana's alerting signs webhooks (https://grafana.com/docs/grafana/latest/alerting/configure-notifications, HMAC
signature). The secret never travels, so what was overheard is worth nothing after the window.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials

from controlplane.api.context import Ctx, Needs, bearer, caller_of
from controlplane.domain.door.identity import Scope
from controlplane.domain.errors import Refused

SIGNATURE, TIMESTAMP = "X-Fleetune-Signature", "X-Fleetune-Timestamp"
WINDOW_S = 300
"""A signature is good for so long before and after its time: clocks differ, and what was overheard ends."""
SIGNER = "signed-webhook"
SHORTEST_SECRET = 16


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return what signs a body at a time, Unix seconds as they are sent."""
    return hmac.new(secret.encode(), timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()


def check_signature(secret: str | None, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Return when a request is signed, and now. Raises Refused."""
    if not secret:
        raise Refused("a signature is not taken here", why="no secret is known", allowed="an API key, or alert-secret")
    if len(secret) < SHORTEST_SECRET:
        raise Refused("a signature is not taken here", why="alert-secret is too short", allowed="16 characters or more")
    timestamp = headers.get(TIMESTAMP, "")
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > len("1700000000000"):
        raise Refused("the signature has no time", allowed=f"{TIMESTAMP}: Unix seconds, which are signed too")
    given = headers.get(SIGNATURE, "").encode(errors="replace")
    if not hmac.compare_digest(given, signature(secret, timestamp, body).encode()):
        raise Refused("the signature is wrong", allowed=f"HMAC-SHA256 in hex over '<{TIMESTAMP}>:<body>'")
    off_s = now.timestamp() - int(timestamp)
    if abs(off_s) > WINDOW_S:
        said = f"it is {abs(off_s):.0f} s {'old' if off_s > 0 else 'ahead'}"
        raise Refused("the signature is not of now", why=said, allowed=f"{WINDOW_S} s to either side: see both clocks")


class NeedsOrSigned(Needs):
    """A dependency: the name of who may, by key or by signature."""

    async def __call__(  # type: ignore[override]  # FastAPI reads this one's parameters
        self, request: Request, ctx: Ctx, given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
    ) -> str:
        if SIGNATURE not in request.headers:
            return super().__call__(caller_of(request, ctx, given))
        check_signature(ctx.alert_secret(), request.headers, await request.body(), ctx.wall_clock())
        return SIGNER


Sender = Annotated[str, Depends(NeedsOrSigned(Scope.OPERATE))]
