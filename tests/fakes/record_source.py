"""A RecordSource in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import News, Position


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

    def follow(self, service: ServiceName, *, since: datetime, position: Position) -> Iterator[News]:
        if self.broken:
            raise Unavailable("the gateways' records cannot be read")
        new = self.records[position.get("", 0) :]
        found = [record for record in new if record.service == service and record.at >= since]
        yield News(found, {"": len(self.records)})

    def recent(
        self, service: ServiceName, *, since: datetime, before: datetime, most: int, most_bytes: int
    ) -> Sequence[GatewayRecord]:
        """See `ports.RecentRecords.recent`; bytes do not count in memory."""
        return [record for record in self.read(service, since=since) if record.at < before][-most:]
