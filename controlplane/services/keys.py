"""API keys: made once, shown once, kept as SHA-256 only. Gateways get the valid ones in their routing table.

Each key is a row of its own, written under the guard of its version: keys made or revoked at the same time do not touch
each other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.domain.door.identity import ApiKey, Credential, Grant, Scope
from controlplane.domain.errors import Conflict, InvalidInput, NotFound, StaleVersion
from controlplane.domain.event import Event
from controlplane.ports.store import Store, Versioned

PREFIX = "flt_"
NOTED_EVERY = timedelta(minutes=1)
"""How exactly the last use of a key is kept."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_RESERVED = frozenset({"local", "cli", "controller", "dashboard"})  # actors that are no keys
_ATTEMPTS = 5


class NewKey(NamedTuple):
    """A key just made. The secret exists here and nowhere else."""

    key: ApiKey
    secret: str


def random_secret() -> str:
    """Return a fresh secret with 256 bits of chance."""
    return PREFIX + secrets.token_urlsafe(32)


def list_keys(store: Store) -> Sequence[Credential]:
    """Return the keys that were not revoked, in the order they were made."""
    return [row.value for row in store.list_credentials() if not row.value.is_revoked]


def gateway_keys(store: Store) -> tuple[tuple[ApiKey, ...], bool]:
    """Return the keys gateways are given, and whether a key is needed at all: that is so once one was ever made."""
    rows = store.list_credentials()
    return tuple(row.value.key for row in rows if not row.value.is_revoked), bool(rows)


def create_key(
    store: Store,
    name: str,
    grant: Grant,
    *,
    actor: str,
    now: datetime,
    new_secret: Callable[[], str] = random_secret,
) -> NewKey:
    """Make a key; a revoked one's name may be used again.

    Raises InvalidInput for a bad name or a grant of nothing, Conflict for a name in use.
    """
    _check(name, grant, now)
    secret = new_secret()
    key = ApiKey(name=name, sha256=digest(secret), **{field: getattr(grant, field) for field in Grant.model_fields})
    event = _event("key.created", name, actor=actor, now=now, reason=f"{grant.tenant}: {', '.join(grant.scopes)}")
    try:
        store.save_credential(Credential(key=key, made_at=now), _free_version(store, name), events=[event])
    except StaleVersion as error:
        raise _taken(name) from error
    return NewKey(key, secret)


def rotate_key(
    store: Store,
    name: str,
    *,
    overlap_s: float,
    actor: str,
    now: datetime,
    new_secret: Callable[[], str] = random_secret,
) -> NewKey:
    """Give a key a new secret; the old one works for `overlap_s` seconds more. Raises NotFound."""
    secret = new_secret()
    until = now + timedelta(seconds=overlap_s)

    def turned(kept: Credential) -> Credential:
        key = kept.key.evolve(sha256=digest(secret), old_sha256=kept.key.sha256, old_until=until)
        return kept.evolve(key=key)

    event = _event("key.rotated", name, actor=actor, now=now, reason=f"the old secret works until {until.isoformat()}")
    return NewKey(_change(store, name, turned, [event]).key, secret)


def revoke_key(store: Store, name: str, *, actor: str, now: datetime) -> None:
    """Revoke a key: requests with it are refused from now on. Raises NotFound."""
    event = _event("key.revoked", name, actor=actor, now=now)
    _change(store, name, lambda kept: kept.evolve(revoked_at=now), [event])


def key_for(keys: Iterable[Credential], secret: str, now: datetime) -> ApiKey | None:
    """Return the valid key a secret belongs to, None when it is nobody's, in the same time for every wrong secret."""
    given = digest(secret).encode()
    found = [kept.key for kept in keys for known in kept.key.digests(now) if hmac.compare_digest(known.encode(), given)]
    return found[0] if found else None


def note_uses(store: Store, uses: Mapping[str, datetime]) -> None:
    """Keep when keys were last used at the gateways."""
    for name, at in uses.items():
        note_use(store, name, at)


def note_use(store: Store, name: str, at: datetime) -> None:
    """Keep when a key was last used, to the minute. Losing against another writer is no harm: it is a minute's news."""
    row = _find(store, name)
    if row is None or row.value.is_revoked:
        return
    last = row.value.last_used_at
    if last is None or at - last >= NOTED_EVERY:
        try:
            store.save_credential(row.value.evolve(last_used_at=at), row.version)
        except StaleVersion:
            return


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _change(store: Store, name: str, change: Callable[[Credential], Credential], events: Sequence[Event]) -> Credential:
    for _ in range(_ATTEMPTS):
        row = _find(store, name)
        if row is None or row.value.is_revoked:
            there = ", ".join(each.key.name for each in list_keys(store))
            raise NotFound(f"no key named '{name}'", allowed=there or "there are none")
        changed = change(row.value)
        try:
            store.save_credential(changed, row.version, events=events)
        except StaleVersion:
            continue
        return changed
    raise Conflict(f"key '{name}' is being changed by others", allowed="try again")


def _find(store: Store, name: str) -> Versioned[Credential] | None:
    return next((row for row in store.list_credentials() if row.value.key.name == name), None)


def _free_version(store: Store, name: str) -> int:
    row = _find(store, name)
    if row is None:
        return 0
    if not row.value.is_revoked:
        raise _taken(name)
    return row.version


def _taken(name: str) -> Conflict:
    return Conflict(f"a key named '{name}' exists", allowed="another name, or revoke it first")


def _check(name: str, grant: Grant, now: datetime) -> None:
    allowed = "1-40 of a-z 0-9 . _ -, beginning with a letter or digit"
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidInput(f"'{name}' cannot name a key", allowed=f"{allowed}, not {', '.join(sorted(_RESERVED))}")
    if not _NAME.fullmatch(grant.tenant):
        raise InvalidInput(f"'{grant.tenant}' cannot name a tenant", allowed=allowed)
    if not grant.scopes:
        raise InvalidInput(f"key '{name}' could do nothing", why="it has no scope", allowed=", ".join(Scope))
    if grant.expires_at is not None and grant.expires_at <= now:
        raise InvalidInput(f"key '{name}' has expired already", why=f"expires_at is {grant.expires_at.isoformat()}")


def _event(action: str, name: str, *, actor: str, now: datetime, reason: str = "") -> Event:
    return Event(at=now, actor=actor, action=action, subject=f"key/{name}", reason=reason)
