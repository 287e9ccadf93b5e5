"""Refusing bodies that hold so many small values that reading them would hold everybody else up.

A JSON parser keeps Python's lock until it has built all of a text: 20 MiB of empty lists took msgspec 2.4 s of CPU, in
which no stream moved. What a value costs is counted first, in steps that let others have their turn.
"""

from __future__ import annotations

from controlplane.gateway.openai_errors import RequestRefused

MOST_COST = 2_000_000
"""Some 40 ms: a number costs one (20 ns), a string three, a list or an object ten (200 ns with its garbage collection).

Messages of a chat cost 31 each: as many as this are 64,000, which no model's context has room for.
"""

_STRING, _CONTAINER = 3, 10


def refuse_many_values(text: bytes, most: int = MOST_COST) -> None:
    """Raise RequestRefused (400) for JSON that costs more than `most`, whether it is well-formed or not."""
    if 2 * text.count(b'"') + _outside(text, 0, len(text)) > most and _costs_more(text, most):
        raise RequestRefused(
            400, "The body holds more values than any model could be asked with.", code="too_many_values"
        )


def _costs_more(text: bytes, most: int) -> bool:
    """Say so surely: texts may hold as many commas and brackets as they like."""
    cost, at = 0, 0
    while cost <= most:
        quote = text.find(b'"', at)
        if quote < 0:
            return cost + _outside(text, at, len(text)) > most
        cost += _STRING + _outside(text, at, quote)
        at = _behind_string(text, quote + 1)
    return True


def _outside(text: bytes, start: int, end: int) -> int:
    """Return what the values between two strings cost."""
    containers = text.count(b"[", start, end) + text.count(b"{", start, end)
    return text.count(b",", start, end) + _CONTAINER * containers


def _behind_string(text: bytes, start: int) -> int:
    """Return where what follows a string begins; `start` is behind its first quote."""
    at = start
    while (quote := text.find(b'"', at)) >= 0:
        slashes = quote
        while slashes > start and text[slashes - 1] == 0x5C:
            slashes -= 1
        at = quote + 1
        if (quote - slashes) % 2 == 0:
            return at
    return len(text)
