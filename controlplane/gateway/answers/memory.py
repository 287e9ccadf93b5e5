"""Answers kept in this process: bounded in bytes, the longest unused one goes first. Lost with the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from controlplane.gateway.answers.entry import Entry

ENTRY_BYTES = 512
"""Reckoned per entry beside its body: keys and Python's objects."""


class _Kept(msgspec.Struct, frozen=True, gc=False):
    entry: Entry
    until: float

    @property
    def size(self) -> int:
        return len(self.entry.body) + ENTRY_BYTES


class MemoryAnswers:
    """See `AnswerStore`. `monotonic` in seconds."""

    def __init__(self, max_bytes: int, monotonic: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: bytes) -> Entry | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= self._monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept.entry

    async def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        kept = _Kept(entry, self._monotonic() + ttl_s)
        self._drop(key)
        if kept.size > self._max_bytes:
            return
        self._kept[key] = kept
        self.bytes += kept.size
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size
