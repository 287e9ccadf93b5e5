"""Who a token speaks for: signature, issuer, audience, time and claims, in that order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import jwt
from jwt.exceptions import PyJWTError

from controlplane.domain.door.identity import Principal
from controlplane.domain.door.issuer import Issuer, TokenAlgorithm, principal_of
from controlplane.domain.errors import Refused, Unavailable
from controlplane.tokens.key_set import Fetch, KeySet

LARGEST_TOKEN_BYTES = 16 << 10
MOST_REMEMBERED = 10_000
"""Verified tokens kept, so that a signature is checked once and not with every request (about 100 µs)."""


class KeysNeeded(Exception):
    """The issuer has to be asked for its keys before anything can be said of the token."""

    def __init__(self, keys: KeySet) -> None:
        super().__init__(keys.issuer.name)
        self.keys = keys


class _Verified(NamedTuple):
    principal: Principal
    keys: KeySet
    generation: int


class TokenDoor:
    """Knows the issuers. `fetch` gets what is at a URL; `monotonic` in seconds."""

    def __init__(self, issuers: Sequence[Issuer], fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self.key_sets = tuple(KeySet(issuer, fetch, monotonic) for issuer in issuers)
        self._by_issuer = {keys.issuer.issuer: keys for keys in self.key_sets}
        self._verified: dict[bytes, _Verified] = {}

    def check(self, token: str, now: datetime) -> Principal:
        """As `known`, and asks the issuer for its keys where that is needed, which may take seconds."""
        try:
            principal = self.known(token, now)
        except KeysNeeded as needed:
            needed.keys.refresh()
            return self.known(token, now)
        for keys in self.key_sets:
            if keys.due:
                keys.refresh()
        return principal

    def known(self, token: str, now: datetime) -> Principal:
        """Return whom a token speaks for, by the keys that are there.

        Raises KeysNeeded when the issuer must be asked first; Refused for a token that proves nothing, Forbidden for
        one whose claims give it nothing, Unavailable when the issuer's keys cannot be had.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = self._verified.get(digest)
        if found is None or found.generation != found.keys.generation or not found.keys.trusted:
            found = self._verify(token, now)
            self._remember(digest, found)
        end = found.principal.expires_at
        if end is not None and now >= end:
            raise _refused("it has expired")
        return found.principal

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        if len(self._verified) >= MOST_REMEMBERED:
            self._verified.pop(next(iter(self._verified)), None)
        self._verified[digest] = verified

    def _verify(self, token: str, now: datetime) -> _Verified:
        header, claims = _unverified(token)
        keys = self._by_issuer.get(claims.get("iss", "")) if isinstance(claims.get("iss"), str) else None
        if keys is None:
            raise _refused("its issuer is not trusted")
        algorithm = _algorithm(header, keys.issuer)
        proven = _proven(token, keys, header, algorithm)
        return _Verified(principal_of(keys.issuer, proven, now), keys, keys.generation)


def looks_like_token(secret: str) -> bool:
    """Say whether a bearer's secret has the form of a signed token: three parts between dots."""
    return secret.count(".") == 2 and secret.startswith("eyJ")


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims as they stand there: good for choosing the key, for nothing else."""
    if len(token) > LARGEST_TOKEN_BYTES:
        raise _refused("it is too long")
    try:
        found = jwt.decode_complete(token, options={"verify_signature": False})
    except (PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _refused("it cannot be read") from error
    return found["header"], found["payload"]


def _algorithm(header: dict[str, Any], issuer: Issuer) -> TokenAlgorithm:
    allowed = {str(each): each for each in issuer.algorithms}
    given = header.get("alg")
    if not isinstance(given, str) or given not in allowed:
        raise _refused("it is signed in a way that is not allowed", allowed=", ".join(allowed))
    return allowed[given]


def _proven(token: str, keys: KeySet, header: dict[str, Any], algorithm: TokenAlgorithm) -> dict[str, Any]:
    """Return the claims of a token whose signature, issuer and audience are right; its time is looked at elsewhere."""
    kid = header.get("kid")
    key = keys.find(kid if isinstance(kid, str) else None, algorithm) if keys.trusted else None
    if key is None:
        raise _without_key(keys)
    ours = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["iss", "aud", "exp", "sub"]}
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=keys.issuer.audience,
            issuer=keys.issuer.issuer,
            options=ours,  # type: ignore[arg-type]  # a TypedDict of which these are some fields
        )
    except (PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _refused("its signature, issuer or audience is wrong, or a claim is missing") from error
    return claims


def _without_key(keys: KeySet) -> Exception:
    if keys.may_ask:
        return KeysNeeded(keys)
    if not keys.trusted:
        return Unavailable(f"tokens of {keys.issuer.name} cannot be checked now", why=keys.problem or "no keys yet")
    return _refused("its issuer has no such key")


def _refused(why: str, allowed: str = "") -> Refused:
    return Refused("this token is not valid", why=why, allowed=allowed)
