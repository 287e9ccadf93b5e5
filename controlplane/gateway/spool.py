"""The spool of request records: JSON lines, one file per gateway and UTC hour, appended in the background."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from controlplane.domain.gateway_files import records_hour, records_name
from controlplane.domain.routing import GatewayRecord

_log = logging.getLogger(__name__)

LARGEST_BACKLOG = 100_000
_PRUNE_EVERY_S = 600.0


class RecordSpool:
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
        self._backlog: deque[GatewayRecord] = deque(maxlen=LARGEST_BACKLOG)
        self._failing = False
        self.written = 0
        self.dropped = 0

    def keep(self, record: GatewayRecord) -> None:
        self.dropped += len(self._backlog) == LARGEST_BACKLOG
        self._backlog.append(record)

    async def run(self) -> None:
        """Write in the background until cancelled."""
        loop = asyncio.get_running_loop()
        prune_at = loop.time()
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()
            if loop.time() >= prune_at:
                await asyncio.to_thread(self.prune)
                prune_at = loop.time() + _PRUNE_EVERY_S

    async def flush(self) -> None:
        """Append everything kept so far. A disk that refuses is reported once, and asked again the next time."""
        batch = list(self._backlog)
        if not batch:
            return
        self._backlog.clear()
        lines = b"".join(record.model_dump_json().encode() + b"\n" for record in batch)
        try:
            await asyncio.to_thread(self._append, lines)
        except OSError as error:
            self._put_back(batch, error)
            return
        self._failing = False
        self.written += len(batch)

    def _put_back(self, batch: Sequence[GatewayRecord], error: OSError) -> None:
        room = LARGEST_BACKLOG - len(self._backlog)
        kept = batch[-room:] if room else ()
        self.dropped += len(batch) - len(kept)
        self._backlog.extendleft(reversed(kept))
        if not self._failing:
            _log.error("request records cannot be written to %s: %s; kept in memory", self._folder, error)
        self._failing = True

    def _append(self, lines: bytes) -> None:
        path = self._folder / records_name(self._gateway, self._clock())
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            # A crash in the middle of a line must not swallow the next record too.
            file.write(b"\n" + lines if _torn(file) else lines)

    def prune(self) -> None:
        """Remove files whose hour ended longer ago than the retention, those of former gateways too."""
        oldest = self._clock() - self._retention - timedelta(hours=1)
        for path in self._folder.glob("*.jsonl"):
            hour = records_hour(path.name)
            if hour is not None and hour < oldest:
                path.unlink(missing_ok=True)


def _torn(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
