"""Requests for an adapter or a version by its name: where they go, by which name engines are asked, and answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from random import Random

import msgspec

from controlplane.domain.door.routing import AdapterPart
from controlplane.gateway.call import Call
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.parsing import parsed
from controlplane.gateway.passage import Passage
from controlplane.gateway.paths import PASSED_ON, Shape
from controlplane.gateway.pools import Route

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


def adapted(call: Call, route: Route, chance: Random) -> Call:
    """Return the call as replicas understand it: an adapter's name becomes that of the version it gets.

    A session stays with its version. A version of the model itself is asked for by the model's own name. Raises
    RequestRefused (400) for a form, whose model cannot be renamed.
    """
    found = route.adapters.get(call.model)
    if found is None and call.model not in route.versions:
        return call
    if PASSED_ON[call.path].shape is not Shape.JSON:
        text = "Adapters and versions are served for JSON requests only."
        raise RequestRefused(400, text, code="adapter_not_here", param="model")
    if found is None:
        return call._replace(model=route.model, body=renamed(call.body, route.model), version=call.model)
    part = _part(found.parts, call.session_hash, chance)
    return call._replace(body=renamed(call.body, part.loaded_as), adapter=part.loaded_as)


class AsAsked:
    """See `passage.Passage`: engines name the version of an adapter that answered, clients are told what they asked.

    Text cannot be taken for the field: its quotation marks are escaped.
    """

    def __init__(self, loaded_as: str, asked: str) -> None:
        self._named = re.compile(rb'("model"\s*:\s*)"%s"' % re.escape(loaded_as.encode()))
        self._instead = rb'\1"%s"' % asked.encode()

    async def feed(self, events: bytes) -> bytes:
        return self._named.sub(self._instead, events)

    async def finish(self) -> bytes:
        return b""

    async def whole(self, body: bytes) -> bytes:
        return self._named.sub(self._instead, body)


def passages_of(call: Call) -> list[Passage]:
    """Return what the answer passes because of what was asked."""
    return [] if call.adapter is None else [AsAsked(call.adapter, call.model)]


def engines_of(call: Call, route: Route) -> Collection[str] | None:
    """Return the engines that have what the call asks for; None: all of them."""
    if call.version is not None:
        named = route.versions.get(call.version)
        revisions = () if named is None else named.revisions
        return {each.backend.engine_id for pool in route.pools if pool.revision in revisions for each in pool.replicas}
    if call.adapter is None:
        return None
    parts = (part for adapter in route.adapters.values() for part in adapter.parts)
    return next((part.engines for part in parts if part.loaded_as == call.adapter), ())


def renamed(body: bytes, model: str) -> bytes:
    """Return a JSON object with another `model`; everything else as it was written.

    What Python takes for JSON and msgspec does not (NaN, half a surrogate pair, a byte order mark, UTF-16) is written
    anew: such a body was understood, so it must not break here.
    """
    try:
        fields = _raw.decode(body)
    except (msgspec.MsgspecError, UnicodeError):
        return json.dumps({**parsed(body), "model": model}).encode()
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
