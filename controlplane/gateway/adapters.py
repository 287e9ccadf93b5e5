"""Requests for an adapter: which of its versions they get, and the body that asks a replica for that version."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from random import Random

import msgspec

from controlplane.domain.door.routing import AdapterPart
from controlplane.gateway.call import Call
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.paths import PASSED_ON, Shape
from controlplane.gateway.pools import Route

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


def adapted(call: Call, route: Route, chance: Random) -> Call:
    """Return the call as replicas understand it: an adapter's name becomes that of the version it gets.

    A session stays with its version. Raises RequestRefused (400) for a form, whose model cannot be renamed.
    """
    found = route.adapters.get(call.model)
    if found is None:
        return call
    if PASSED_ON[call.path].shape is not Shape.JSON:
        raise RequestRefused(400, "Adapters are served for JSON requests only.", code="adapter_not_here", param="model")
    part = _part(found.parts, call.session_hash, chance)
    return replace(call, body=renamed(call.body, part.loaded_as), adapter=part.loaded_as)


def engines_of(call: Call, route: Route) -> Collection[str] | None:
    """Return the engines that have what the call asks for; None: all of them."""
    if call.adapter is None:
        return None
    parts = (part for adapter in route.adapters.values() for part in adapter.parts)
    return next((part.engines for part in parts if part.loaded_as == call.adapter), ())


def renamed(body: bytes, model: str) -> bytes:
    """Return a JSON object with another `model`; everything else as it was written."""
    fields = _raw.decode(body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def _part(parts: Collection[AdapterPart], session: str | None, chance: Random) -> AdapterPart:
    drawn = 100 * (chance.random() if session is None else _uniform(session))
    for part in parts:
        drawn -= part.share_percent
        if drawn < 0:
            return part
    return next(reversed(tuple(parts)))


def _uniform(session: str) -> float:
    digest = hashlib.blake2b(f"adapter\0{session}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2.0**64
