"""Keep every gateway's routing table what the saved state and the ready engines make of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError

from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.routing import RoutingTable, ServiceRoute
from controlplane.domain.errors import InvalidInput, StaleVersion, Unavailable
from controlplane.ports.gateways import TrafficRouter
from controlplane.ports.store import Store, Versioned
from controlplane.reading.problems import describe
from controlplane.services.fleet.limits import MeasuredLimits
from controlplane.services.fleet.world import World, route
from controlplane.services.keys import gateway_keys

SETTING = "routing_table"
UNROUTED_GRACE_S = 30.0
"""A gateway that cannot be reached for so long no longer holds back the stopping of engines."""


class TableKeeper:
    """Builds the table, remembers it in the store, and gives it to gateways that have another one."""

    def __init__(self, *, store: Store, router: TrafficRouter) -> None:
        self._store = store
        self._router = router
        self._limits = MeasuredLimits(store)
        self._unrouted_since: datetime | None = None
        self._actual: Sequence[RoutingTable | None] = ()
        self.problem: str | None = None

    def push(self, worlds: Sequence[World], now: datetime) -> None:
        """Make the gateways' tables right. What they really use is read each time; `problem` says what went wrong."""
        try:
            services, bad = self._routes(worlds, now)
            self._give(services)
            self.problem, self._unrouted_since = bad, (self._unrouted_since or now) if bad else None
        except (Unavailable, StaleVersion) as error:
            self.problem = str(error)
            self._unrouted_since = self._unrouted_since or now

    def may_stop(self, now: datetime) -> bool:
        """Say whether no gateway can still be sending requests to engines that left the table."""
        waited_s = 0.0 if self._unrouted_since is None else (now - self._unrouted_since).total_seconds()
        return self.problem is None or waited_s >= UNROUTED_GRACE_S

    def weights(self, service: ServiceName, revision: RevisionId) -> tuple[int | None, ...]:
        """Return a revision's share in the table that each gateway had at the last push; None: it did not answer."""
        return tuple(None if table is None else _weight(table, service, revision) for table in self._actual)

    def _routes(self, worlds: Sequence[World], now: datetime) -> tuple[tuple[ServiceRoute, ...], str | None]:
        """Return every service's route, and what is wrong with one that keeps the route it had."""
        routes: list[ServiceRoute] = []
        problem = None
        for world in worlds:
            try:
                routes.append(route(world, self._limits.of(world, now)))
            except ValidationError as error:
                name = world.service.name
                problem = str(
                    InvalidInput(f"the route of {name} cannot be used, it keeps its last", why=describe(error))
                )
                last = _read(self._store.read_setting(SETTING))
                routes += [each for each in (last.services if last else ()) if each.service == name]
        return tuple(sorted(routes, key=lambda each: each.service)), problem

    def _give(self, services: tuple[ServiceRoute, ...]) -> None:
        self._actual = ()
        actual = self._actual = self._router.actual()
        table = self._table(services, actual)
        if any(present != table for present in actual):
            self._router.apply(table)

    def _table(self, services: tuple[ServiceRoute, ...], actual: Sequence[RoutingTable | None]) -> RoutingTable:
        """Return the table with this content: the last one when nothing changed, else one with a higher version."""
        saved, (keys, required) = self._store.read_setting(SETTING), gateway_keys(self._store)
        last = _read(saved)
        content = (services, keys, required)
        if last and (last.services, last.api_keys, last.keys_required) == content and not _outdone(last, actual):
            return last
        newest = max((table.version for table in actual if table), default=0)
        version = max(self._store.next_number("routing-table"), newest + 1)
        table = RoutingTable(version=version, services=services, api_keys=keys, keys_required=required)
        self._store.write_setting(SETTING, table.model_dump_json(), 0 if saved is None else saved.version)
        return table


def _read(saved: Versioned[str] | None) -> RoutingTable | None:
    """Return the last table; one that this version cannot read is as good as none: a new one is made."""
    try:
        return None if saved is None else RoutingTable.model_validate_json(saved.value)
    except ValidationError:
        return None


def _weight(table: RoutingTable, service: ServiceName, revision: RevisionId) -> int:
    routes = [route for each in table.services if each.service == service for route in each.revisions]
    return sum(route.weight_percent for route in routes if route.revision == revision)


def _outdone(table: RoutingTable, actual: Sequence[RoutingTable | None]) -> bool:
    """Say whether a gateway would refuse the table: it has a newer one (another store's), or another of its version."""
    return any(present and present.version >= table.version and present != table for present in actual)
