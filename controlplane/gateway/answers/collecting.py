"""Keeping a copy of an answer while it passes, up to a size."""

from __future__ import annotations


class Collector:
    """See `passage.Passage`: passes everything on unchanged."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def body(self) -> bytes | None:
        """All that passed; None when it was too much."""
        return b"".join(self._parts) if self._size <= self._max_bytes else None

    async def feed(self, events: bytes) -> bytes:
        self._size += len(events)
        if self._size <= self._max_bytes:
            self._parts.append(events)
        else:
            self._parts.clear()
        return events

    async def finish(self) -> bytes:
        return b""

    async def whole(self, body: bytes) -> bytes:
        return await self.feed(body)
