"""The spool of request records and of scores: JSON lines, one file per gateway and UTC hour, appended behind."""

from __future__ import annotations

import asyncio
import logging
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from io import FileIO
from itertools import accumulate
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.gateway_files import records_hour, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.lean import in_json
from controlplane.gateway.background import next_turn
from controlplane.gateway.turns import in_turns
from controlplane.host.files import ends_torn

_log = logging.getLogger(__name__)

LARGEST_BACKLOG = 100_000
BATCH = 1_000
"""Records made into lines at a time: with a full disk not the whole backlog again and again, some 20 ms on a thread."""

_PRUNE_EVERY_S = 600.0


R = TypeVar("R", bound=BaseModel)


class Spool(Generic[R]):
    """Keeps records in memory for at most `flush_s`, then appends them; what a full disk refuses is kept and retried.

    A backlog beyond 100,000 records loses its oldest, which `dropped` counts.
    """

    def __init__(
        self, folder: Path, gateway: str, *, clock: Callable[[], datetime], retention_h: float, flush_s: float = 0.2
    ) -> None:
        self._folder = folder
        self._gateway = gateway
        self._clock = clock
        self._retention = timedelta(hours=retention_h)
        self._flush_s = flush_s
        self._backlog: deque[R] = deque(maxlen=LARGEST_BACKLOG)
        self._failing = False
        self._flushing: asyncio.Future[None] | None = None
        self.written = 0
        self.dropped = 0

    def keep(self, record: R) -> None:
        self.dropped += len(self._backlog) == LARGEST_BACKLOG
        self._backlog.append(record)

    async def run(self) -> None:
        """Write in the background until cancelled."""
        loop = asyncio.get_running_loop()
        prune_at = loop.time()
        while True:
            await next_turn(self._flush_s)
            await self.flush()
            if loop.time() >= prune_at:
                await asyncio.to_thread(self.prune)
                prune_at = loop.time() + _PRUNE_EVERY_S

    async def flush(self) -> None:
        """Append everything kept so far. A disk that refuses is reported once, and asked again the next time.

        Who is cancelled meanwhile does not stop it: a thread writes on, and what it could not write is kept.
        """
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._write_backlog())
        await asyncio.shield(self._flushing)

    async def _write_backlog(self) -> None:
        while self._backlog:
            batch = [self._backlog.popleft() for _ in range(min(BATCH, len(self._backlog)))]
            kept, error = await asyncio.to_thread(self._append, batch)
            self.written += kept
            if error is not None:
                self._put_back(batch[kept:], error)
                return
            self._failing = False

    def _put_back(self, batch: Sequence[R], error: OSError) -> None:
        room = LARGEST_BACKLOG - len(self._backlog)
        kept = batch[-room:] if room else ()
        self.dropped += len(batch) - len(kept)
        self._backlog.extendleft(reversed(kept))
        if not self._failing:
            _log.error("request records cannot be written to %s: %s; kept in memory", self._folder, error.strerror)
        self._failing = True

    def _append(self, batch: Sequence[R]) -> tuple[int, OSError | None]:
        """Append lines; return how many records are on the disk, whole, and what kept the others from it."""
        path = self._folder / records_name(self._gateway, self._clock())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+", buffering=0) as file:
                # A crash in the middle of a line must not swallow the next record too.
                return append_lines(file, batch, b"\n" if ends_torn(file) else b"")
        except OSError as error:
            return 0, error

    def prune(self) -> None:
        """Remove files whose hour ended longer ago than the retention, those of former gateways too."""
        oldest = self._clock() - self._retention - timedelta(hours=1)
        for path in self._folder.glob("*.jsonl"):
            hour = records_hour(path.name)
            if hour is not None and hour < oldest:
                path.unlink(missing_ok=True)


RecordSpool = Spool[GatewayRecord]
ScoreSpool = Spool[Feedback]


def append_lines(file: FileIO, batch: Sequence[BaseModel], before: bytes) -> tuple[int, OSError | None]:
    """Append one line per record, `before` in front; return how many are there whole, and what kept the others away.

    What a full disk took of a line is taken back, so that no line is ever there in part or twice.
    """
    start = file.seek(0, os.SEEK_END)
    lines = [in_json(record) + b"\n" for record in in_turns(batch)]
    lines[0] = before + lines[0]
    written, error = _write(file, memoryview(b"".join(lines)))
    if error is None:
        return len(lines), None
    ends = list(accumulate(map(len, lines), initial=0))
    whole = bisect_right(ends, written) - 1
    file.truncate(start + ends[whole])
    return whole, error


def _write(file: FileIO, data: memoryview) -> tuple[int, OSError | None]:
    written = 0
    try:
        while written < len(data):
            written += file.write(data[written:])
    except OSError as error:
        return written, error
    return written, None
