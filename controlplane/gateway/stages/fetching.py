"""Keeping clients from sending engines where they should not go: engines fetch the pictures that a request names."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from controlplane.domain.door.media import Media, may_be_fetched, media_of
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.many_values import refuse_many_values
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.parsing import parsed
from controlplane.gateway.paths import PASSED_ON, Shape
from controlplane.gateway.pools import Route

ANY = "*"

_NAMED = b'url"'  # how each field that is fetched ends, and no quoted text does: in a text the quote is escaped
_FORMATTED = b'data_format"'  # beside what is fetched by vLLM's IO processors
_NAMES = (_NAMED, _FORMATTED)
_LONG_BYTES = 16 << 10
_MOST_QUOTES = 256  # looked at one by one, an eighth of a microsecond each
_LETTERS = re.compile(rb"\\u00[5-7]")  # unless a letter of the name is escaped, which no client does
_VALUE = re.compile(rb'\s*:\s*"((?:[^"\\]|\\.){0,2048})"')


class Fetching:
    """Looks at URLs where there are any. Off where a service allows every host."""

    def is_on(self, route: Route) -> bool:
        hosts = route.options.media_hosts
        return hosts is None or ANY not in hosts

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        call, hosts = exchange.call, exchange.route.options.media_hosts
        if PASSED_ON[call.path].shape is Shape.JSON and _may_name(call.body):
            refused = await _refused(exchange, hosts)
            if refused is not None:
                raise _refusal(refused, hosts)
        return await rest(exchange)


def _may_name(body: bytes) -> bool:
    """Say whether a body may hold a URL to fetch; quickly, and never wrongly no. Of UTF-16 nothing is known."""
    named = _ends_as_named(body)
    return named or b"\0" in body[:4] or (b"\\" in body and _LETTERS.search(body) is not None)


def _ends_as_named(body: bytes) -> bool:
    """Say whether something ends as such a field does. In a long body the next quote is found sooner than a word."""
    if len(body) < _LONG_BYTES:
        return _NAMED in body or _FORMATTED in body
    at = -1
    for _ in range(_MOST_QUOTES):
        at = body.find(b'"', at + 1)
        if at < 0:
            return False
        if body.endswith(_NAMES, 0, at + 1):
            return True
    return _NAMED in body or _FORMATTED in body


async def _refused(exchange: Exchange, hosts: Sequence[str] | None) -> Media | None:
    """Return a URL that may not be fetched."""
    try:
        if exchange.fields is not None:
            return _first(exchange.fields, hosts)
        return await asyncio.to_thread(_first_of_large, exchange.call.body, hosts)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, "The body is not valid JSON, or nested too deeply.", code="invalid_json") from error


def _first(fields: Mapping[str, Any], hosts: Sequence[str] | None) -> Media | None:
    return next((media for media in media_of(fields) if not may_be_fetched(media.url, hosts)), None)


def _first_of_large(body: bytes, hosts: Sequence[str] | None) -> Media | None:
    """As `_first`; parsing a picture of 24 MiB holds Python's lock for 20 ms, so what looks like a URL comes first."""
    plain = not _LETTERS.search(body) and _FORMATTED not in body
    if plain and all(_is_fine(body, at, hosts) for at in _places(body)):
        return None
    refuse_many_values(body)
    fields = parsed(body)
    return _first(fields, hosts) if isinstance(fields, dict) else None


def _places(body: bytes) -> Sequence[int]:
    """Return where the names end."""
    found, at = [], body.find(_NAMED)
    while at >= 0:
        found.append(at + len(_NAMED))
        at = body.find(_NAMED, found[-1])
    return found


def _is_fine(body: bytes, at: int, hosts: Sequence[str] | None) -> bool:
    """Say whether what stands behind a name is surely none to refuse."""
    begins = body[at : at + 16].replace(b" ", b"")
    if begins.startswith((b':"data:', b":{")):  # an object's own `url` is looked at when its turn comes
        return True
    value = _VALUE.match(body, at)
    return value is not None and may_be_fetched(json.loads(b'"%s"' % value[1]), hosts)


def _refusal(media: Media, hosts: Sequence[str] | None) -> RequestRefused:
    allowed = "hosts in public networks" if hosts is None else ", ".join(hosts) or "no host"
    text = f"`{media.key}` may be a `data:` URL, or a plain http or https URL of: {allowed}."
    return RequestRefused(400, text, code="media_not_allowed", param=media.key)
