"""RecordFeed on the gateways' spool: follows their files, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from controlplane.adapters.gateway.hourly_files import listed, parsed, pieces
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import records_dir
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import News, Position


class SpooledFeed:
    """Remembers nothing of its readers: how far each has come it is told. Safe for several threads."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = records_dir(data_dir)

    def follow(self, service: ServiceName, *, since: datetime, position: Position) -> Iterator[News]:
        """See `ports.RecordFeed.follow`. Files by name: gateway after gateway, each hour by hour."""
        reached = dict(position)
        try:
            for name, size in listed(self._folder, since):
                begin = reached.get(name, 0)
                for lines, end in pieces(self._folder / name, begin if begin <= size else 0, size):
                    reached[name] = end
                    yield News(_of(service, lines, since), dict(reached))
        except OSError as error:
            raise Unavailable("the gateways' records cannot be read", why=str(error)) from error


def _of(service: ServiceName, lines: bytes, since: datetime) -> Sequence[GatewayRecord]:
    records = parsed(lines, GatewayRecord, where="in the request records")
    return [r.model_copy(update={"prefix_blocks": ()}) for r in records if r.service == service and r.at >= since]
