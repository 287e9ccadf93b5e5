"""Appending to the audit log: JSON lines, one file per gateway and UTC day, written in the background and synced."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.door.audit import Entry, Happened, Head, lengthened
from controlplane.domain.door.gateway_files import audit_day, audit_files, audit_name
from controlplane.gateway.background import next_turn
from controlplane.gateway.turns import in_turns

_log = logging.getLogger(__name__)

LARGEST_BACKLOG = 100_000
BATCH = 1_000
FLUSH_S = 0.2
_LONGEST_LINE_BYTES = 1 << 20
_PRUNE_EVERY_S = 600.0


class _Waiting(NamedTuple):
    number: int
    happened: Happened


class AuditLog:
    """Keeps entries for 0.2 s, then writes them. What a full disk refuses waits; beyond 100,000 the oldest are lost.

    What was lost shows: its number is missing in the chain. `clock` gives aware UTC.
    """

    def __init__(self, folder: Path, gateway: str, *, clock: Callable[[], datetime], retention_days: float) -> None:
        self._folder = folder
        self._gateway = gateway
        self._clock = clock
        self._retention = timedelta(days=retention_days)
        self._backlog: deque[_Waiting] = deque(maxlen=LARGEST_BACKLOG)
        self._head = _last_head(folder, gateway)
        self._number = self._head.number
        self._failing = False
        self._flushing: asyncio.Future[None] | None = None

    def keep(self, happened: Happened) -> None:
        self._number += 1
        self._backlog.append(_Waiting(self._number, happened))

    async def run(self) -> None:
        """Write in the background until cancelled."""
        loop = asyncio.get_running_loop()
        prune_at = loop.time()
        while True:
            await next_turn(FLUSH_S)
            await self.flush()
            if loop.time() >= prune_at:
                await asyncio.to_thread(self.prune)
                prune_at = loop.time() + _PRUNE_EVERY_S

    async def flush(self) -> None:
        """Append everything kept so far. A disk that refuses is reported once, and asked again the next time.

        Who is cancelled meanwhile does not stop it: a thread writes on, and two that wrote would break the chain.
        """
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._write_backlog())
        await asyncio.shield(self._flushing)

    async def _write_backlog(self) -> None:
        while self._backlog:
            batch = [self._backlog.popleft() for _ in range(min(BATCH, len(self._backlog)))]
            try:
                self._head = await asyncio.to_thread(self._append, batch)
                self._failing = False
            except OSError as error:
                self._backlog.extendleft(reversed(batch[max(0, len(self._backlog) + len(batch) - LARGEST_BACKLOG) :]))
                if not self._failing:
                    _log.error("the audit log cannot be written to %s: %s", self._folder, error.strerror)
                self._failing = True
                return

    def prune(self) -> None:
        """Remove files whose day ended longer ago than the retention: whole days, the oldest first."""
        oldest = self._clock() - self._retention - timedelta(days=1)
        for path in audit_files(self._folder, self._gateway):
            day = audit_day(path.name)
            if day is not None and day < oldest:
                path.unlink(missing_ok=True)

    def _append(self, batch: Sequence[_Waiting]) -> Head:
        """Write a batch whole or not at all, and return the new end of the chain. Raises OSError."""
        head, lines = self._head, []
        for waiting in in_turns(batch):
            head, line = lengthened(head, waiting.number, waiting.happened)
            lines.append(line)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / audit_name(self._gateway, self._clock())
        with open(path, "ab", buffering=0, opener=_private) as file:
            _write_whole(file, b"".join(lines))
        return head


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_whole(file: FileIO, data: bytes) -> None:
    start, rest = file.seek(0, os.SEEK_END), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(start)
        raise


def _last_head(folder: Path, gateway: str) -> Head:
    """Return the end of the chain on the disk. What a killed gateway left of its last line is taken away."""
    for path in reversed(audit_files(folder, gateway)):
        size = path.stat().st_size
        start = max(0, size - _LONGEST_LINE_BYTES)
        with path.open("rb") as file:
            file.seek(start)
            tail = file.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        if whole != tail:
            os.truncate(path, start + len(whole))
        if whole:
            return _head_of(whole.splitlines()[-1])
    return Head()


def _head_of(line: bytes) -> Head:
    """Return where the chain goes on; behind a line that is no entry it begins anew, which `verify` then shows."""
    try:
        entry = Entry.model_validate_json(line)
    except ValueError:
        return Head()
    return Head(entry.number, entry.hash)
