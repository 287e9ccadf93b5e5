"""RecordSource on the gateways' spool: tails their files, keeps the latest records in memory, sorted by arrival."""

from __future__ import annotations

import bisect
import logging
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from controlplane.adapters.gateway.hourly_files import hour_of, new_lines, parsed
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.gateway_files import records_dir
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable

_log = logging.getLogger(__name__)

LARGEST_WINDOW = 30_000  # about 100 MB of records


class SpooledRecords:
    """Reads each byte of the spool once and answers from memory; safe for several threads.

    At most `window` records are kept, the latest by arrival. A question that reaches further back is answered from the
    files as long as the gateways keep them, so nothing is ever left out, it only takes longer.

    The hashes of prompt blocks, tens of kB for a long prompt, are dropped unless `with_blocks`: only traces need them.
    """

    def __init__(self, data_dir: Path, *, window: int = LARGEST_WINDOW, with_blocks: bool = False) -> None:
        self._folder = records_dir(data_dir)
        self._window = window
        self._with_blocks = with_blocks
        self._offsets: dict[str, int] = {}
        self._kept: list[GatewayRecord] = []
        self._complete_from: datetime | None = None  # memory holds everything that arrived at or after this
        self._lock = threading.Lock()

    def read(
        self, service: ServiceName, *, since: datetime, revision: RevisionId | None = None
    ) -> Sequence[GatewayRecord]:
        """Return finished requests that arrived at or after `since`, oldest first. Raises Unavailable.

        A failed attempt that another replica made good is a record of its own (`retried`), of the revision that failed.
        """
        with self._lock:
            try:
                records = self._since(since)
            except OSError as error:
                raise Unavailable("the gateways' records cannot be read", why=str(error)) from error
        return [r for r in records if r.service == service and (revision is None or r.revision == revision)]

    def _since(self, since: datetime) -> Sequence[GatewayRecord]:
        if self._complete_from is None or (since < self._complete_from and len(self._kept) < self._window):
            self._complete_from = hour_of(since)
            self._offsets, self._kept = {}, []
        self._take_in()
        if since < self._complete_from:
            found = (record for _, lines in new_lines(self._folder, since, {}) for record in self._parse(lines))
            return sorted((r for r in found if r.at >= since and not r.replayed), key=_arrival)
        return self._kept[bisect.bisect_left(self._kept, since, key=_arrival) :]

    def _take_in(self) -> None:
        """Read what the gateways have appended, then forget the oldest beyond the window."""
        assert self._complete_from is not None
        for name, lines in new_lines(self._folder, self._complete_from, self._offsets):
            self._offsets[name] = self._offsets.get(name, 0) + len(lines)
            for record in self._parse(lines):
                if record.at >= self._complete_from and not record.replayed:
                    bisect.insort(self._kept, record, key=_arrival)
        surplus = len(self._kept) - self._window
        if surplus > 0:
            # Not the instant of the last one forgotten: another one of that instant may be forgotten with it.
            self._complete_from = self._kept[surplus - 1].at + timedelta(microseconds=1)
            del self._kept[:surplus]

    def _parse(self, lines: bytes) -> Iterable[GatewayRecord]:
        for record in parsed(lines, GatewayRecord, where="in the request records"):
            yield record if self._with_blocks else record.without_blocks()


def _arrival(record: GatewayRecord) -> datetime:
    return record.at
