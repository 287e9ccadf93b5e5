"""A TrafficRouter in memory: gateways are names with the table they were last given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from controlplane.domain.door.routing import InFlight, RoutingTable
from controlplane.domain.errors import StaleVersion, Unavailable


class FakeTrafficRouter:
    """Behaves like gateways that take a table at once. `down` names those that do not answer."""

    def __init__(self, gateways: Iterable[str] = ("gw-1",)) -> None:
        self.tables: dict[str, RoutingTable | None] = dict.fromkeys(gateways)
        self.down: set[str] = set()
        self.applied: list[RoutingTable] = []
        self.in_flight: list[InFlight] = []
        self.trouble: dict[str, list[str]] = {}
        self.uses: dict[str, datetime] = {}
        self.ends: dict[str, dict[str, datetime]] = {}

    def apply(self, table: RoutingTable) -> None:
        self.applied.append(table)
        if not self.tables:
            raise Unavailable("no gateway runs")
        failures = [error for name in self.tables if (error := self._give(name, table)) is not None]
        if failures:
            raise failures[0]

    def actual(self) -> Sequence[RoutingTable | None]:
        if not set(self.tables) - self.down:
            raise Unavailable("no gateway answers")
        return [None if name in self.down else table or RoutingTable(version=0) for name, table in self.tables.items()]

    def flights(self) -> Sequence[InFlight]:
        if not set(self.tables) - self.down:
            raise Unavailable("no gateway answers")
        return list(self.in_flight)

    def key_uses(self) -> Mapping[str, datetime]:
        return dict(self.uses) if set(self.tables) - self.down else {}

    def troubles(self) -> Mapping[str, Sequence[str]]:
        return {name: self.trouble.get(name, []) for name in self.tables if name not in self.down}

    def certificates(self) -> Mapping[str, Mapping[str, datetime]]:
        return {name: self.ends.get(name, {}) for name in self.tables if name not in self.down}

    def _give(self, name: str, table: RoutingTable) -> Unavailable | StaleVersion | None:
        if name in self.down:
            return Unavailable(f"gateway {name} did not take the routing table")
        present = self.tables[name]
        if present is not None and (table.version < present.version or _differs(table, present)):
            return StaleVersion(f"gateway {name} refused the routing table", why=f"it uses version {present.version}")
        self.tables[name] = table
        return None


def _differs(table: RoutingTable, present: RoutingTable) -> bool:
    return table.version == present.version and table != present
