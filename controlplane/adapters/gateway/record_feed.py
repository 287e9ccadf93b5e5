"""RecordFeed on the gateways' spool: what is new is read once for all who follow in this process.

The ends of the files are kept for a while as values, in parts as they were read. Who is where a part begins is given
it; who comes from further back, or begins anew, reads the file up to there alone. So what is kept decides what a look
costs, never what it finds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from controlplane.adapters.gateway.finishing import finished_from, line_from
from controlplane.adapters.gateway.hourly_files import all_lines_end, listed, parsed, pieces
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import records_dir
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import NO_TIME, News, Position

KEPT_BYTES = 24 << 20
"""Of lines: some 100 MB of values, half a minute of 1,000 requests/s with prompts of a thousand tokens."""
KEPT_S = 30.0
"""Longer than anybody pauses between two looks."""
AN_HOUR = timedelta(hours=1)
"""The file of the hour before has a place too: who asks for a little further back is not to read all of it."""
_MOST_FILES = 4096  # whose ends are remembered; to look again costs little


class Part(NamedTuple):
    """Lines of one file that were read at once."""

    name: str
    begin: int
    end: int
    records: Sequence[GatewayRecord]

    def of(self, service: ServiceName, since: datetime) -> Sequence[GatewayRecord]:
        return [each for each in self.records if each.service == service and each.at >= since]


class SpooledFeed:
    """Remembers nothing of its readers: how far each has come it is told. Safe for several threads."""

    def __init__(
        self, data_dir: Path, *, most_bytes: int = KEPT_BYTES, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = records_dir(data_dir)
        self._most_bytes = most_bytes
        self._monotonic = monotonic
        self._ends: dict[str, int] = {}
        self._parts: dict[tuple[str, int], Part] = {}
        self._kept: deque[tuple[float, Part]] = deque()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def place(self, *, since: datetime, back: timedelta = NO_TIME, most_bytes: int = 0) -> Position:
        """See `ports.RecordFeed.place`. `most_bytes` of each file."""
        try:
            files = listed(self._folder, since - max(back, AN_HOUR))
            return {name: self._placed(name, size, since, back, most_bytes) for name, size in files}
        except OSError as error:
            raise _unreadable(error) from error

    def _placed(self, name: str, size: int, since: datetime, back: timedelta, most_bytes: int) -> int:
        path = self._folder / name
        at = finished_from(path, all_lines_end(path, size), since)
        if not back:
            return at
        return max(finished_from(path, at, since - back), line_from(path, max(0, at - most_bytes)))

    def follow(
        self, service: ServiceName, *, since: datetime, position: Position, until: Position | None = None
    ) -> Iterator[News]:
        """See `ports.RecordFeed.follow`. Files by name: gateway after gateway, each hour by hour.

        Of a file that was not read yet what was finished before `since` is passed over by its order, unread.
        """
        reached, told = dict(position), position
        try:
            with self._lock:
                ends = self._caught_up(since)
            for name, whole in ends:
                if until is not None and name not in until:
                    continue
                end = whole if until is None else min(whole, until[name])
                begin = reached.get(name)
                if begin is None:
                    reached[name] = begin = finished_from(self._folder / name, end, since)
                for part in self._between(name, begin if begin <= whole else 0, end):
                    reached[name] = part.end
                    yield News(part.of(service, since), told := dict(reached), len(part.records))
            if reached != told:  # what was passed over need not be searched again
                yield News((), reached)
        except OSError as error:
            raise _unreadable(error) from error

    def _caught_up(self, since: datetime) -> Sequence[tuple[str, int]]:
        """Read what the gateways have appended since anybody looked; return where whole lines end, file by file."""
        if len(self._ends) > _MOST_FILES:
            self._ends.clear()
        ends = []
        for name, size in listed(self._folder, since):
            end = self._ends.get(name)
            if end is None or size < end or size - end > self._most_bytes:  # of a file replaced by hand: begin anew
                self._forget(name)
                end = all_lines_end(self._folder / name, size)
            elif size > end:
                end = self._take_in(name, end, size)
            self._ends[name] = end
            ends.append((name, end))
        self._forget_old()
        return ends

    def _take_in(self, name: str, end: int, size: int) -> int:
        for part in self._read(name, end, size):
            self._parts[name, part.begin] = part
            self._kept.append((self._monotonic(), part))
            self._kept_bytes += part.end - part.begin
            end = part.end
        return end

    def _between(self, name: str, begin: int, end: int) -> Iterator[Part]:
        while begin < end:
            with self._lock:
                kept = self._parts.get((name, begin))
                stop = min((at for file, at in self._parts if file == name and at > begin), default=end)
            parts = [kept] if kept else self._read(name, begin, min(stop, end))
            before = begin
            for part in parts:
                begin = part.end
                yield part
            if begin == before:  # the file is gone
                return

    def _read(self, name: str, begin: int, end: int) -> Iterator[Part]:
        for lines, stop in pieces(self._folder / name, begin, end):
            yield Part(name, begin, stop, tuple(parsed(lines, GatewayRecord, where="in the request records")))
            begin = stop

    def _forget_old(self) -> None:
        oldest = self._monotonic() - KEPT_S
        while self._kept and (self._kept_bytes > self._most_bytes or self._kept[0][0] < oldest):
            _, part = self._kept.popleft()
            self._kept_bytes -= part.end - part.begin
            if self._parts.get((part.name, part.begin)) is part:
                del self._parts[part.name, part.begin]

    def _forget(self, name: str) -> None:
        for key in [each for each in self._parts if each[0] == name]:
            del self._parts[key]


def _unreadable(error: OSError) -> Unavailable:
    return Unavailable("the gateways' records cannot be read", why=str(error))
