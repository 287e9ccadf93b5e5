"""Keeping a copy of an answer while it passes, up to a size, and all of them together up to another.

Copies of streams are made of blocks of one size that go from one to the next: copies that grew each in a piece of its
own left holes that no larger one fitted into, and the process grew by them for as long as streams lasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

BLOCK_BYTES = 4 << 10
"""Of one block: some twenty events of a stream. A copy wastes half of one."""


class Room:
    """Bytes that all answers under way may take together. `refused` counts the answers that found too little."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.taken = 0
        self.refused = 0
        self._spare: list[bytearray] = []

    def take(self, size: int) -> bool:
        """Take so many bytes; False when there are not so many left."""
        if self.taken + size > self.max_bytes:
            return False
        self.taken += size
        return True

    def give_back(self, size: int) -> None:
        self.taken -= size

    def block(self) -> bytearray | None:
        """Take a block of `BLOCK_BYTES`, with whatever is in it; None when there is none left."""
        if not self.take(BLOCK_BYTES):
            return None
        return self._spare.pop() if self._spare else bytearray(BLOCK_BYTES)

    def give_back_blocks(self, blocks: Sequence[bytearray]) -> None:
        """Take blocks back for the next; all of them go when nobody has any."""
        self.give_back(len(blocks) * BLOCK_BYTES)
        self._spare += blocks
        if not self.taken:
            self._spare.clear()


class Collector:
    """See `passage.Passage`: passes everything on unchanged. Within `with` it keeps a copy, for which it takes room.

    One that grows beyond `max_bytes`, or finds no room, lets go of all it has: the others go on.
    """

    def __init__(self, max_bytes: int, room: Room) -> None:
        self._max_bytes = max_bytes
        self._room = room
        self._whole = b""  # of an answer in one piece
        self._blocks: list[bytearray] = []  # of a stream
        self._left = 0  # bytes that are free in the last of them
        self._size = 0
        self._kept = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    @property
    def body(self) -> bytes | None:
        """All that passed; None when it was too much."""
        if not self._kept:
            return None
        return b"".join(self._blocks)[: self._size] if self._blocks else self._whole

    async def feed(self, events: bytes) -> bytes:
        if self._kept:
            self._add(events)
        return events

    async def finish(self) -> bytes:
        return b""

    async def whole(self, body: bytes) -> bytes:
        if self._fits(len(body)):
            if self._room.take(len(body)):
                self._whole = body  # what never changes needs no copy
            else:
                self._refused()
        return body

    def _add(self, events: bytes) -> None:
        if not self._fits(len(events)):
            return
        at = 0
        while at < len(events):
            if not self._left and not self._has_another():
                return
            piece = events[at : at + self._left]
            start = BLOCK_BYTES - self._left
            self._blocks[-1][start : start + len(piece)] = piece
            self._left -= len(piece)
            at += len(piece)

    def _has_another(self) -> bool:
        """Begin the next block; let go of everything where there is none."""
        block = self._room.block()
        if block is None:
            self._refused()
            return False
        self._blocks.append(block)
        self._left = BLOCK_BYTES
        return True

    def _fits(self, size: int) -> bool:
        """Count so much more; let go of everything where it is too much."""
        if self._kept and self._size + size > self._max_bytes:
            self._let_go()
        self._size += size
        return self._kept

    def _refused(self) -> None:
        self._room.refused += 1
        self._let_go()

    def _let_go(self) -> None:
        if self._kept:
            self._room.give_back(len(self._whole))
            self._room.give_back_blocks(self._blocks)
            self._kept, self._whole, self._blocks = False, b"", []
