"""How many of a service's requests ask for each of its adapters: counted beside the controller, kept for studies.

Counted are the last day's requests of users that an engine had to serve. Counts are kept by the hour in memory; whoever
takes over counts the same records anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import Field

from controlplane.domain.base import ServiceName, Value
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import FleetuneError, StaleVersion
from controlplane.ports import Clock
from controlplane.ports.gateways import Position, RecordFeed
from controlplane.ports.store import Store
from controlplane.services.kept import read_kept

COUNTED = timedelta(hours=24)
_WRITE_EVERY_S = 60.0


class SeenShares(Value):
    """Requests of the last day, and how many of them asked for each adapter by the name clients use."""

    requests: int = Field(default=0, ge=0)
    of: Mapping[str, int] = Field(default_factory=dict)

    def percent(self, adapter: str) -> float:
        """Return an adapter's share of the requests, percent; 0 while none was seen."""
        return 100 * self.of.get(adapter, 0) / self.requests if self.requests else 0.0


@dataclass
class _Count:
    since: datetime
    position: Position = field(default_factory=dict)
    hours: dict[int, Counter[str | None]] = field(default_factory=dict)
    written_s: float | None = None


class AdapterShares:
    """One look at the requests of every service that has adapters. `monotonic` in seconds."""

    def __init__(self, *, store: Store, records: RecordFeed, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._records = records
        self._clock = clock
        self._monotonic = monotonic
        self._counts: dict[ServiceName, _Count] = {}

    def run(self) -> Sequence[str]:
        """Count what is new and keep it, once a minute; returns what could not be done."""
        problems = []
        for service, _ in self._store.list_services():
            if not service.adapters:
                continue
            try:
                self._look(service.name)
            except StaleVersion:  # another controller keeps it
                continue
            except FleetuneError as error:
                problems.append(f"{service.name}: {error}")
        return problems

    def _look(self, service: ServiceName) -> None:
        now, count = self._clock(), self._counts.setdefault(service, _Count(self._clock() - COUNTED))
        if count.written_s is not None and self._monotonic() < count.written_s + _WRITE_EVERY_S:
            return
        for news in self._records.follow(service, since=count.since, position=count.position):
            for record in filter(_counts, news.records):
                hour = count.hours.setdefault(_hour(record.at), Counter())
                hour[None if record.adapter is None else record.adapter.rpartition("--")[0]] += 1
            count.position = news.position
        oldest = _hour(now - COUNTED)
        count.hours = {hour: seen for hour, seen in count.hours.items() if hour >= oldest}
        self._keep(service, sum(count.hours.values(), Counter()))
        count.written_s = self._monotonic()

    def _keep(self, service: ServiceName, seen: Counter[str | None]) -> None:
        found = SeenShares(
            requests=seen.total(),
            of={name: n for name, n in sorted((name, n) for name, n in seen.items() if name is not None)},
        )
        saved = self._store.read_setting(_setting(service))
        if saved is None or saved.value != found.model_dump_json():
            self._store.write_setting(_setting(service), found.model_dump_json(), 0 if saved is None else saved.version)


def read_shares(store: Store, service: ServiceName) -> SeenShares:
    """Return what was last counted; nothing where nobody did."""
    return read_kept(store, _setting(service), SeenShares.model_validate_json, SeenShares()).value


def _counts(record: GatewayRecord) -> bool:
    return record.engine_id is not None and not (record.replayed or record.retried)


def _hour(at: datetime) -> int:
    return int(at.timestamp() // 3600)


def _setting(service: ServiceName) -> str:
    return f"adapter-shares/{service}"
