"""What an answer passes on its way from the engine to the client, where a stage looks at it or changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Passage(Protocol):
    """One of them. It sees an answer in one piece (`whole`), or a stream (`feed`, then `finish` once)."""

    async def feed(self, events: bytes) -> bytes:
        """Take whole events of a stream and return what may go on now."""

    async def finish(self) -> bytes:
        """Return what was held back, as whole events: nothing more comes."""

    async def whole(self, body: bytes) -> bytes:
        """Return the body to send in place of this one."""


async def fed(passages: Sequence[Passage], events: bytes) -> bytes:
    """Send events through all of them, the first first."""
    for passage in passages:
        if not events:
            return b""
        events = await passage.feed(events)
    return events


async def finished(passages: Sequence[Passage]) -> bytes:
    """Return what they held back, each one's sent through those behind it."""
    rest = b""
    for passage in passages:
        passed = await passage.feed(rest) if rest else b""
        rest = passed + await passage.finish()
    return rest


async def whole(passages: Sequence[Passage], body: bytes) -> bytes:
    """Send a body through all of them."""
    for passage in passages:
        body = await passage.whole(body)
    return body
