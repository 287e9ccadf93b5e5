"""A RecordSource in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.outcomes import finished_at
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import NO_TIME, News, Position

PIECE = 1000


class FakeRecordSource:
    """Returns the records it was given. `broken` makes every read raise Unavailable."""

    def __init__(self, records: Iterable[GatewayRecord] = ()) -> None:
        self.records = list(records)
        self.broken = False

    def add(self, *records: GatewayRecord) -> None:
        self.records.extend(records)

    def read(
        self, service: ServiceName, *, since: datetime, revision: RevisionId | None = None
    ) -> Sequence[GatewayRecord]:
        if self.broken:
            raise Unavailable("the gateways' records cannot be read")
        found = (r for r in self.records if r.service == service and r.at >= since and not r.replayed)
        return sorted((r for r in found if revision is None or r.revision == revision), key=lambda r: r.at)

    def place(self, *, since: datetime, back: timedelta = NO_TIME, most_bytes: int = 0) -> Position:
        if self.broken:
            raise Unavailable("the gateways' records cannot be read")
        at = next((n for n, each in enumerate(self.records) if finished_at(each) >= since), len(self.records))
        left = most_bytes
        while back and at > 0 and finished_at(before := self.records[at - 1]) >= since - back:
            left -= len(before.model_dump_json())
            if left < 0:
                break
            at -= 1
        return {"": at}

    def follow(
        self, service: ServiceName, *, since: datetime, position: Position, until: Position | None = None
    ) -> Iterator[News]:
        """Gives a thousand records at a time."""
        if self.broken:
            raise Unavailable("the gateways' records cannot be read")
        begin, end = position.get("", 0), len(self.records) if until is None else until.get("", 0)
        for at in range(begin, max(end, begin + 1), PIECE):
            new = self.records[at : min(end, at + PIECE)]
            found = [record for record in new if record.service == service and record.at >= since]
            yield News(found, {"": at + len(new)}, len(new))

    def recent(
        self, service: ServiceName, *, since: datetime, before: datetime, most: int, most_bytes: int
    ) -> Sequence[GatewayRecord]:
        """See `ports.RecentRecords.recent`; bytes do not count in memory."""
        return [record for record in self.read(service, since=since) if record.at < before][-most:]
