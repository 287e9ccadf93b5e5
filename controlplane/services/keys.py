"""API keys: made once, shown once, kept as SHA-256 only. The gateway gets the same list in its routing table."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic import TypeAdapter

from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.event import Event
from controlplane.domain.routing import ApiKey
from controlplane.ports import Store

SETTING = "api_keys"
PREFIX = "flt_"

_KEYS = TypeAdapter(tuple[ApiKey, ...])
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_RESERVED = frozenset({"local", "cli", "controller"})  # actors that are no keys


class NewKey(NamedTuple):
    """A key just made. The secret exists here and nowhere else."""

    key: ApiKey
    secret: str


def random_secret() -> str:
    """Return a fresh secret with 256 bits of chance."""
    return PREFIX + secrets.token_urlsafe(32)


def list_keys(store: Store) -> Sequence[ApiKey]:
    """Return the keys in the order they were made."""
    text = store.read_setting(SETTING)
    return _KEYS.validate_json(text) if text else ()


def create_key(
    store: Store, name: str, *, actor: str, now: datetime, new_secret: Callable[[], str] = random_secret
) -> NewKey:
    """Make a key. Raises InvalidInput for a bad name, Conflict for one in use."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidInput(
            f"'{name}' cannot name a key",
            allowed="1-40 of a-z 0-9 . _ -, beginning with a letter or digit, not " + ", ".join(sorted(_RESERVED)),
        )
    keys = list_keys(store)
    if any(key.name == name for key in keys):
        raise Conflict(f"a key named '{name}' exists", allowed="another name, or revoke it first")
    secret = new_secret()
    key = ApiKey(name=name, sha256=_digest(secret))
    _save(store, [*keys, key])
    store.add_event(Event(at=now, actor=actor, action="key.created", subject=f"key/{name}"))
    return NewKey(key, secret)


def revoke_key(store: Store, name: str, *, actor: str, now: datetime) -> None:
    """Forget a key: requests with it are refused from now on. Raises NotFound."""
    keys = list_keys(store)
    kept = [key for key in keys if key.name != name]
    if len(kept) == len(keys):
        raise NotFound(f"no key named '{name}'", allowed=", ".join(key.name for key in keys) or "there are none")
    _save(store, kept)
    store.add_event(Event(at=now, actor=actor, action="key.revoked", subject=f"key/{name}"))


def key_for(keys: Sequence[ApiKey], secret: str) -> ApiKey | None:
    """Return the key a secret belongs to, None when it is nobody's. Takes the same time for every wrong secret."""
    digest = _digest(secret)
    found = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
    return found[0] if found else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _save(store: Store, keys: Sequence[ApiKey]) -> None:
    store.write_setting(SETTING, _KEYS.dump_json(tuple(keys)).decode())
