"""Who may use the gateway: bearer keys, compared by their SHA-256 in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from controlplane.domain.routing import ApiKey
from controlplane.gateway.openai_errors import RequestRefused


def key_name(authorization: str | None, keys: Iterable[ApiKey], *, required: bool) -> str | None:
    """Return the name of the key that a request carries; None when no keys are configured and none is `required`.

    Raises RequestRefused (401) for a missing or wrong key, and for every request when keys are required but none is
    configured yet.
    """
    known = tuple(keys)
    if not known and not required:
        return None
    found = _match(_digest(authorization), known)
    if found is None:
        raise RequestRefused(
            401, "Missing or wrong API key: send `Authorization: Bearer <key>`.", code="invalid_api_key"
        )
    return found


def same_secret(given: str | None, expected: str) -> bool:
    """Compare a bearer header with a secret, in time that does not depend on where they differ."""
    return hmac.compare_digest(_digest(given).encode(), hashlib.sha256(expected.encode()).hexdigest().encode())


def _digest(authorization: str | None) -> str:
    scheme, _, secret = (authorization or "").partition(" ")
    given = secret.strip() if scheme.lower() == "bearer" else ""
    return hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()


def _match(digest: str, keys: Iterable[ApiKey]) -> str | None:
    found = None
    for key in keys:  # no early exit: the time must not tell which key it was
        if hmac.compare_digest(digest.encode(), key.sha256.lower().encode()):
            found = key.name
    return found
