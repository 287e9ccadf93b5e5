"""RecentRecords on the gateways' spool: the ends of their files, hour by hour into the past, as far as bytes allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from controlplane.adapters.gateway.hourly_files import listed, parsed, pieces
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_hour
from controlplane.domain.door.outcomes import finished_at
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.domain.rollouts.replayed import GATEWAY


class _Tail(NamedTuple):
    records: Sequence[GatewayRecord]
    complete_from: datetime | None  # None: the whole file


class RecentSpool:
    """Keeps nothing: each question reads at most so many bytes, whatever the gateways have written."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = records_dir(data_dir)

    def recent(
        self, service: ServiceName, *, since: datetime, before: datetime, most: int, most_bytes: int
    ) -> Sequence[GatewayRecord]:
        """See `ports.RecentRecords.recent`."""
        try:
            return self._recent(service, since, before, most, most_bytes)
        except OSError as error:
            raise Unavailable("the gateways' records cannot be read", why=str(error)) from error

    def _recent(
        self, service: ServiceName, since: datetime, before: datetime, most: int, most_bytes: int
    ) -> Sequence[GatewayRecord]:
        found: list[GatewayRecord] = []
        complete_from, left = since, most_bytes
        for files in self._hours(since):
            for index, (name, size) in enumerate(files):
                room = left // (len(files) - index)
                tail = self._tail(name, size, room)
                left -= min(size, room)
                found += [each for each in tail.records if _is_asked(each, service, since, before)]
                complete_from = max(complete_from, tail.complete_from or since)
            if len(found) >= most or complete_from > since:
                break
        kept = sorted((each for each in found if each.at >= complete_from), key=lambda each: each.at)
        return kept[-most:]

    def _hours(self, since: datetime) -> Iterator[list[tuple[str, int]]]:
        """Files of users' requests, the latest hour first; the smallest first, so that what they leave is others'."""
        files = [(name, size) for name, size in listed(self._folder, since) if not name.startswith(f"{GATEWAY}-")]
        files.sort(key=lambda file: (records_hour(file[0]), -file[1]), reverse=True)
        for _, of_hour in groupby(files, key=lambda file: records_hour(file[0])):
            yield list(of_hour)

    def _tail(self, name: str, size: int, room: int) -> _Tail:
        """Read whole lines within the last `room` bytes; the first one may have been cut, so it is left."""
        begin = max(0, size - room)
        lines = b"".join(each for each, _ in pieces(self._folder / name, begin, size))
        if begin:
            lines = lines.partition(b"\n")[2]
        records = list(parsed(lines, GatewayRecord, where="in the request records"))
        if not begin:
            return _Tail(records, None)
        # All that finished since the first of them is here, so all that arrived since.
        return _Tail(records, finished_at(records[0]) if records else _end_of_hour(name))


def _end_of_hour(name: str) -> datetime | None:
    hour = records_hour(name)
    return None if hour is None else hour + timedelta(hours=1)


def _is_asked(record: GatewayRecord, service: ServiceName, since: datetime, before: datetime) -> bool:
    return record.service == service and not record.replayed and since <= record.at < before
