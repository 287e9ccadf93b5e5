"""The audit log: who asked what when, what was decided and what it took. Never text. Pure.

Entries of a gateway are a chain: each holds the SHA-256 of the one before it, so an entry that was changed, taken out,
put in or moved shows. What no chain can show by itself is that its end was cut off, or that all of it was written anew:
whoever keeps the number and hash of the last entry elsewhere sees that too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec
from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value

_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_quickly = msgspec.json.Encoder(order="sorted").encode

FIRST = "0" * 64
"""What the first entry of a chain has before it."""


class Decision(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    FROM_CACHE = "from_cache"
    REFUSED = "refused"  # by us: identity, limits, policy, ...
    REJECTED = "rejected"  # by the engine, 4xx
    FAILED = "failed"
    LEFT = "left"  # the client hung up


class Happened(Value):
    """What an entry tells, before it has its place in the chain."""

    at: AwareDatetime = Field(description="Arrival.")
    gateway: str
    request_id: str | None = Field(default=None, description="None: refused before it had one.")
    tenant: str | None = None
    key: str | None = Field(default=None, description="Name of the key or token, never its secret.")
    service: str | None = None
    model: str | None = None
    revision: str | None = None
    path: str
    decision: Decision
    reason: str | None = Field(default=None, description="Failure class or code of the refusal.")
    status: int
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    flags: tuple[str, ...] = Field(default=(), description="What the policy on requests found.")
    redacted: bool = False


class Entry(Value):
    """One link of the chain."""

    number: int = Field(ge=1)
    before: str = Field(description="Hash of the entry before; 64 zeros for the first.")
    happened: Happened
    hash: str


class Head(NamedTuple):
    """The end of a chain: the last entry's number and hash."""

    number: int = 0
    hash: str = FIRST


class Broken(NamedTuple):
    """The first place where a chain is not what was written."""

    where: str
    why: str


class Verified(NamedTuple):
    """A chain that is whole. `first` is above 1 where older entries are past their retention."""

    first: int
    head: Head


def lengthened(head: Head, number: int, happened: Happened) -> tuple[Head, bytes]:
    """Return the chain's next end, and the entry as a line of the log. A number may leave some out: those are lost."""
    before, told = written(head.hash), _told(happened)
    found = Head(number, _hash_of(number, before, told))
    line = b'{"before":%b,"happened":%b,"hash":"%b","number":%d}\n' % (before, told, found.hash.encode(), number)
    return found, line


def verify(lines: Iterable[tuple[str, bytes]]) -> Verified | Broken:
    """Check a gateway's lines, oldest first, each with the place it is from."""
    head, first = Head(), 0
    for where, line in lines:
        try:
            entry = Entry.model_validate_json(line)
        except ValueError:
            return Broken(where, "this is no entry")
        wrong = _wrong(entry, head) if first else _wrong_by_itself(entry)
        if wrong is not None:
            return Broken(where, wrong)
        first, head = first or entry.number, Head(entry.number, entry.hash)
    return Verified(first, head)


def _wrong(entry: Entry, head: Head) -> str | None:
    if entry.before != head.hash:
        return f"entry {entry.number} does not follow entry {head.number}: something was taken out, put in or moved"
    if entry.number != head.number + 1:
        return f"entries {head.number + 1} to {entry.number - 1} were never written: the gateway lost them"
    return _wrong_by_itself(entry)


def _wrong_by_itself(entry: Entry) -> str | None:
    if entry.hash != _hash_of(entry.number, written(entry.before), _told(entry.happened)):
        return f"entry {entry.number} was changed"
    if entry.number == 1 and entry.before != FIRST:
        return "entry 1 was changed"
    return None


def _hash_of(number: int, before: bytes, told: bytes) -> str:
    """Return the hash of `[number, before, told]`, of which two are written already."""
    return hashlib.sha256(b"[%d,%b,%b]" % (number, before, told)).hexdigest()


def _told(happened: Happened) -> bytes:
    """Write what an entry tells; of a gateway's own it is a lean one."""
    return written(happened.model_dump(mode="json") if isinstance(happened, Happened) else happened)


def written(said: object) -> bytes:
    """Return ASCII JSON, keys sorted, as Python's own encoder writes it: what chains were hashed by from the first."""
    quickly = _quickly(said)
    return quickly if quickly.isascii() and b"\x7f" not in quickly else _encoded(msgspec.to_builtins(said)).encode()
