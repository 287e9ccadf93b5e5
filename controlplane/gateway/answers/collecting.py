"""Keeping a copy of an answer while it passes, up to a size, and all of them together up to another."""

from __future__ import annotations

from typing import Self


class Room:
    """Bytes that all answers under way may take together. `refused` counts the answers that found too little."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.taken = 0
        self.refused = 0

    def take(self, size: int) -> bool:
        """Take so many bytes; False when there are not so many left."""
        if self.taken + size > self.max_bytes:
            return False
        self.taken += size
        return True

    def give_back(self, size: int) -> None:
        self.taken -= size


class Collector:
    """See `passage.Passage`: passes everything on unchanged. Within `with` it keeps a copy, for which it takes room.

    One that grows beyond `max_bytes`, or finds no room, lets go of all it has: the others go on.
    """

    def __init__(self, max_bytes: int, room: Room) -> None:
        self._max_bytes = max_bytes
        self._room = room
        self._copy: bytearray | bytes | None = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    @property
    def body(self) -> bytes | None:
        """All that passed; None when it was too much."""
        return None if self._copy is None else bytes(self._copy)

    async def feed(self, events: bytes) -> bytes:
        if self._finds_room(len(events)):
            if not isinstance(self._copy, bytearray):
                self._copy = bytearray()  # small pieces would take more than the bytes in them
            self._copy += events
        return events

    async def finish(self) -> bytes:
        return b""

    async def whole(self, body: bytes) -> bytes:
        if self._finds_room(len(body)):
            self._copy = body  # what never changes needs no copy
        return body

    def _finds_room(self, size: int) -> bool:
        """Take room for so much more; let go of everything where there is none, or where it was too much."""
        if self._copy is None:
            return False
        if len(self._copy) + size <= self._max_bytes:
            if self._room.take(size):
                return True
            self._room.refused += 1
        self._let_go()
        return False

    def _let_go(self) -> None:
        if self._copy is not None:
            self._room.give_back(len(self._copy))
            self._copy = None
