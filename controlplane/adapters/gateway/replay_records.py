"""Records of requests we sent ourselves, in a file of their own beside those of the gateways."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from controlplane.adapters.gateway.hourly_files import append
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.domain.rollouts.replayed import GATEWAY
from controlplane.ports import Clock


class ReplayRecords:
    """Appends whole lines; the gateways remove the files with theirs. One writer per service."""

    def __init__(self, data_dir: Path, *, clock: Clock) -> None:
        self._folder = records_dir(data_dir)
        self._clock = clock

    def keep(self, service: ServiceName, records: Sequence[GatewayRecord]) -> None:
        """Raises Unavailable when they cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            append(self._path(service, self._clock()), records)
        except OSError as error:
            raise Unavailable("the records of replayed requests cannot be written", why=str(error)) from error

    def _path(self, service: ServiceName, at: datetime) -> Path:
        return self._folder / records_name(f"{GATEWAY}-{service}", at)
