"""A call as one engine gets it: what the client sent, byte for byte, and behind it what is the gateway's to say."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from controlplane.domain.door.routing import Backend
from controlplane.gateway.call import Call
from controlplane.gateway.classes import priority_of
from controlplane.gateway.exchange import Exchange


def for_engine(exchange: Exchange, backend: Backend) -> Call:
    """Return the call with the class it was granted, and its tenant's salt, for an engine that heeds them."""
    call, ours = exchange.call, dict[str, object]()
    if backend.by_priority and (priority := priority_of(exchange)) is not None:
        ours["priority"] = priority
    if backend.by_salt and call.cache_salt is not None:
        ours["cache_salt"] = call.cache_salt
    return call._replace(body=with_fields(call.body, ours)) if ours else call


def with_fields(body: bytes, ours: Mapping[str, object]) -> bytes:
    """Return a JSON object's body with these as its last fields: of two of one name that are given the last counts."""
    if b"\0" in body[:4]:  # what is appended is UTF-8, and a JSON object in UTF-16 or UTF-32 has a NUL there
        body = body.decode(json.detect_encoding(body), "surrogatepass").encode("utf-8", "surrogatepass")
    inner = body.rstrip()[:-1].rstrip()
    comma = b"" if inner.endswith(b"{") else b","
    return inner + comma + msgspec.json.encode(ours)[1:]
