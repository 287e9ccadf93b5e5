"""Cutting a long prompt of token ids to what a fingerprint covers, in small steps.

msgspec reads 20 MiB of ids in one call of some 40 ms, in which it holds Python's lock and no stream moves. Here they
are read in pieces, between which others get their turn; what is left is small.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

LEAST_BYTES = 1 << 20
"""Shorter lists are read fast enough."""

_PIECE_BYTES = 512 << 10
_BEGINS_WITHIN = 64 << 10
_BEGIN = re.compile(rb'"(?:prompt|input)"\s*:\s*\[(?=\s*[0-9])')
_read = msgspec.json.Decoder(msgspec.Raw).decode


class Shortened(NamedTuple):
    """A body with fewer ids, the list that it has in their place, and how many ids there were."""

    body: bytes
    kept: bytes
    ids: int


def shortened(body: bytes, most: int, *, least: int = LEAST_BYTES, piece: int = _PIECE_BYTES) -> Shortened | None:
    """Return the body with the first `most` bytes of its ids, cut behind a whole one.

    None where there is no long list at its beginning, or something that is not surely one: then it is read as a whole.
    """
    begin = _BEGIN.search(body, 0, _BEGINS_WITHIN)
    if begin is None:
        return None
    start = begin.end()
    end = body.find(b"]", start)
    if end - start < max(least, most):
        return None
    ids = _count(body, start, end, piece)
    cut = body.rfind(b",", start, start - 1 + most)
    if ids is None or cut < 0:
        return None
    return Shortened(body[:cut] + body[end:], body[start - 1 : cut] + b"]", ids)


def _count(body: bytes, start: int, end: int, piece: int) -> int | None:
    """Return how many values lie in between, None where it is no list. Lists joined by commas are a list."""
    ids = 0
    while start <= end:
        stop = end if end - start <= piece else body.rfind(b",", start, start + piece)
        values = body[start:stop] if stop >= 0 else b""
        if not values.strip():
            return None
        try:
            _read(b"[" + values + b"]")
        except msgspec.MsgspecError:
            return None
        ids += values.count(b",") + 1
        start = stop + 1
    return ids
