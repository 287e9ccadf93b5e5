"""Who asks: the key in a request's headers, found by its SHA-256, and what it may do here."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from controlplane.domain.door.identity import ApiKey, Principal, PriorityClass, Scope, may
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.host.addresses import is_loopback, without_port

_DOING = {
    Scope.INFER: "ask models: it lacks the scope `infer`",
    Scope.READ: "read metrics: it lacks the scope `read`",
}
_PLAIN_HEADERS = ("X-Api-Key", "Api-Key")  # Anthropic's clients, Azure's


class KeyRing:
    """The keys of one routing table. Looking a digest up says nothing about other keys, however long it takes."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._by_digest: dict[str, ApiKey] = {}
        self.limited = False  # some key has limits of its own
        self.vips = False  # some key is a vip's
        for key in keys:
            self.limited = self.limited or bool(key.limits)
            self.vips = self.vips or key.priority is PriorityClass.VIP
            for digest in (key.old_sha256, key.sha256):
                if digest is not None:
                    self._by_digest[digest.lower()] = key

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def find(self, secret: str, now: datetime) -> ApiKey | None:
        """Return the key that a secret opens now, None when it is nobody's or its time is over."""
        digest = _digest(secret)
        key = self._by_digest.get(digest)
        if key is None or not key.is_valid(now):
            return None
        if digest == key.sha256 or digest == key.sha256.lower():
            return key
        return key if digest in (known.lower() for known in key.digests(now)) else None


class FindsTokens(Protocol):
    """What knows the tokens of trusted issuers (`stages.tokens`)."""

    def find(self, secret: str, now: datetime) -> Awaitable[Principal | None]:
        """Return whom a token speaks for, None for what is no token. Raises RequestRefused."""


async def identify(
    headers: Mapping[str, str],
    ring: KeyRing,
    *,
    required: bool,
    now: datetime,
    tokens: FindsTokens | None = None,
    scope: Scope = Scope.INFER,
) -> Principal | None:
    """Return who asks, by the key or the token of a request; None when there are no keys and none is `required`.

    Raises RequestRefused for a missing or wrong key or token (401) and for one without the scope (403).
    """
    if not ring and not required:
        return None
    secret = _secret(headers)
    found: Principal | None = ring.find(secret, now)
    if found is None and tokens is not None:
        found = await tokens.find(secret, now)
    if found is None:
        raise RequestRefused(
            401, "Missing or wrong API key: send `Authorization: Bearer <key>`.", code="invalid_api_key"
        )
    if not may(found.scopes, scope):
        raise RequestRefused(403, f"This API key may not {_DOING[scope]}.", code="wrong_scope")
    return found


def require_neighbour(host: str | None, origin: str | None, allowed_origins: Collection[str]) -> None:
    """Raise RequestRefused (403) for a web page where nobody needs a key: any page that is open here could ask else.

    A page's own name may be made to resolve to this machine, and then a browser sends no `Origin` with a GET: so the
    request must name this machine itself.
    """
    allowed = origin in allowed_origins or "*" in allowed_origins
    if origin is not None and not allowed:
        raise RequestRefused(403, "Pages of this origin may not ask here.", code="origin_not_allowed")
    if host is not None and not is_loopback(without_port(host)) and not allowed:
        text = "Without keys only this machine is answered: name it by localhost or a loopback address."
        raise RequestRefused(403, text, code="host_not_allowed")


def require_model(key: Principal | None, name: str, model: str) -> None:
    """Raise RequestRefused (403) when the key is neither for the named model nor for the one it is an adapter of."""
    if key is not None and not key.may_ask(name) and not key.may_ask(model):
        raise RequestRefused(
            403, f"This API key may not use the model `{name}`.", code="model_not_allowed", param="model"
        )


def same_secret(authorization: str | None, expected: str) -> bool:
    """Compare a bearer header with a secret, in time that does not depend on where they differ."""
    return hmac.compare_digest(_digest(_bearer(authorization)).encode(), _digest(expected).encode())


def _secret(headers: Mapping[str, str]) -> str:
    bearer = _bearer(headers.get("Authorization"))
    return bearer or next((given.strip() for name in _PLAIN_HEADERS if (given := headers.get(name))), "")


def _bearer(authorization: str | None) -> str:
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
