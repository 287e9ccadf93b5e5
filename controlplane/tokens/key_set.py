"""The public keys of one issuer: fetched when they are needed, again when they are old, and never without bound."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from controlplane.domain.door.issuer import Issuer, TokenAlgorithm
from controlplane.domain.errors import Unavailable

ASKED_AT_MOST_EVERY_S = 10.0
"""Anybody can send tokens that name a key nobody has: they make one question in ten seconds, whatever their number."""

Fetch = Callable[[str, float], bytes]
"""Returns what is at a URL within so many seconds. Raises Unavailable."""

_MOST_KEYS = 100


class KeySet:
    """Keys by their id. `monotonic` in seconds. Safe to use from several threads."""

    def __init__(self, issuer: Issuer, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self.issuer = issuer
        self.generation = 0  # counts changes: what was verified with former keys is verified again
        self.problem: str | None = None
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: Mapping[str | None, Mapping[str, Any]] = {}
        self._made: dict[tuple[str | None, str], PyJWK] = {}
        self._confirmed_at: float | None = None
        self._asked_at: float | None = None
        self._lock = threading.Lock()

    @property
    def trusted(self) -> bool:
        """Say whether there are keys, confirmed by the issuer not too long ago."""
        return self._confirmed_at is not None and self._monotonic() - self._confirmed_at < self.issuer.max_age_s

    @property
    def may_ask(self) -> bool:
        """Say whether the issuer may be asked again by now."""
        return self._asked_at is None or self._monotonic() - self._asked_at >= ASKED_AT_MOST_EVERY_S

    @property
    def due(self) -> bool:
        """Say whether the keys are to be confirmed."""
        confirmed = self._confirmed_at
        return self.may_ask and (confirmed is None or self._monotonic() - confirmed >= self.issuer.refresh_s)

    def find(self, kid: str | None, algorithm: TokenAlgorithm) -> PyJWK | None:
        """Return the key with this id for an algorithm; without an id the only one there is. None: there is none."""
        if kid is None and len(self._keys) == 1:
            kid = next(iter(self._keys))
        data, made = self._keys.get(kid), self._made.get((kid, algorithm))
        if made is not None or data is None or data.get("alg", algorithm) != algorithm:
            return made
        try:
            key = PyJWK(dict(data), algorithm=algorithm)
        except PyJWTError:  # an elliptic key for an RSA signature, or a key that is none
            return None
        self._made[(kid, algorithm)] = key
        return key

    def refresh(self) -> None:
        """Ask the issuer, unless somebody just did; `problem` says why that failed, and the keys so far stay."""
        with self._lock:
            if not self.may_ask:
                return
            try:
                self._take(_public_keys(self._fetch(self.issuer.jwks_url, self.issuer.answer_within_s)))
            except Unavailable as error:
                self.problem = str(error)
            finally:  # not before: who comes meanwhile is to wait for the answer
                self._asked_at = self._monotonic()

    def _take(self, keys: Mapping[str | None, Mapping[str, Any]]) -> None:
        self._confirmed_at, self.problem = self._monotonic(), None
        if keys != self._keys:
            self._keys, self._made = keys, {}
            self.generation += 1


def _public_keys(text: bytes) -> Mapping[str | None, Mapping[str, Any]]:
    """Return the keys for signatures in a JWKS (RFC 7517) by their id. Raises Unavailable when it is none."""
    try:
        given = json.loads(text)
        keys = given["keys"] if isinstance(given, dict) else None
    except (ValueError, RecursionError, KeyError):
        keys = None
    if not isinstance(keys, list):
        raise Unavailable("the issuer's keys cannot be read", why="it did not answer with a JWKS")
    usable = [key for key in keys[:_MOST_KEYS] if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP")]
    return {_id(key): key for key in usable if key.get("use", "sig") == "sig"}


def _id(key: Mapping[str, Any]) -> str | None:
    kid = key.get("kid")
    return kid if isinstance(kid, str) else None
