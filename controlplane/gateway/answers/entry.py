"""One kept answer, and the port of what keeps it."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An answer as its client got it, whole: the body or the event stream, byte for byte.

    It holds nothing that could hold it: tens of thousands are not looked through for what is garbage.
    """

    body: bytes
    content_type: str
    revision: str  # who gave it

    @property
    def events(self) -> bool:
        """Say whether it was streamed."""
        return self.content_type.startswith("text/event-stream")


class AnswerStore(Protocol):
    """Keeps answers for a while. What it cannot reach it has not got: it never raises."""

    async def get(self, key: bytes) -> Entry | None:
        """Return what is kept under a key, None when nothing is, or not any more."""

    async def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        """Keep an answer for so many seconds, or less when there is no room."""
