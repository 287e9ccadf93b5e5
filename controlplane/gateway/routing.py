"""The routing table in use: taking a new one, finding a route, keeping replicas across tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from controlplane.domain.door.routing import Backend, RevisionRoute, RoutingTable, ServiceRoute
from controlplane.domain.errors import StaleVersion
from controlplane.gateway.pools import Pool, Replica, Route
from controlplane.gateway.stages.identity import KeyRing


class Routing:
    """The present table with its replicas. Starts empty; streams on removed replicas go on to their end."""

    def __init__(self) -> None:
        self.table: RoutingTable | None = None
        self._routes: Mapping[str, Route] = {}
        self._named: Mapping[str, Route] = {}
        self._replicas: dict[tuple[str, Backend], Replica] = {}
        self._leaving: list[Replica] = []
        self.keys = KeyRing()
        self.key_uses: dict[str, datetime] = {}  # by name: the last request of each key
        self.refused: Mapping[str, str] = {}  # by service: why its route in the present table is not used
        self._waiting: asyncio.Event = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Say whether at least one model can be served."""
        return any(route.served for route in self._routes.values())

    @property
    def keys_required(self) -> bool:
        """Say whether a key was ever made: then everybody needs one."""
        return self.table is not None and self.table.keys_required

    def route(self, model: str) -> Route | None:
        return self._routes.get(model)

    def route_of(self, name: str) -> Route | None:
        """Return who serves a model, or the adapter or version of a name."""
        return self._routes.get(name) or self._named.get(name)

    @property
    def only_model(self) -> str | None:
        """Return the model that is meant where none has to be named; None where several are served."""
        return next(iter(self._routes)) if len(self._routes) == 1 else None

    def models(self) -> Iterator[str]:
        return iter(self._routes)

    def routes(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def replicas(self) -> list[Replica]:
        """Every replica that may have requests in flight, those of earlier tables included."""
        return [*self._replicas.values(), *self.leaving()]

    def leaving(self) -> list[Replica]:
        """Replicas of earlier tables that still finish streams."""
        self._leaving = [replica for replica in self._leaving if replica.in_flight]
        return self._leaving

    def take(self, table: RoutingTable, unreadable: Mapping[str, str] | None = None) -> bool:
        """Use `table` from now on; False when it is the present one already.

        A service whose route cannot be accepted (`unreadable`, or a model that another service serves) keeps the route
        it had; the others have their new ones. Raises StaleVersion for an older version, or the same version with other
        content.
        """
        if self.table is not None and not self._newer(table, self.table):
            return False
        known = self._replicas | {(r.revision, r.backend): r for r in self.leaving()}
        replicas: dict[tuple[str, Backend], Replica] = {}
        accepted, refused = _accepted(table.services, self._routes)
        routes = {service.model: _route(service, known, replicas) for service in accepted}
        self._keep(routes, replicas, refused | dict(unreadable or {}))
        self._leaving = [r for key, r in known.items() if key not in replicas and r.in_flight]
        self.table, self._routes, self._replicas = table, routes, replicas
        self._named = {name: route for route in routes.values() for name in (*route.adapters, *route.versions)}
        self.keys = KeyRing(table.api_keys)
        names = {key.name for key in table.api_keys}
        self.key_uses = {name: used for name, used in self.key_uses.items() if name in names}
        self.refused = refused | dict(unreadable or {})
        self._waiting.set()
        self._waiting = asyncio.Event()
        return True

    async def changed(self, within_s: float) -> None:
        """Return once another table is used, or after `within_s` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.wait(), within_s)

    def _keep(
        self, routes: dict[str, Route], replicas: dict[tuple[str, Backend], Replica], refused: Mapping[str, str]
    ) -> None:
        """Carry the present routes of refused services over, unless their model is somebody else's now."""
        for route in self._routes.values():
            if route.service in refused and route.model not in routes:
                routes[route.model] = replace(route)  # a way of its own: what is on may have changed
                own = (replica for pool in route.pools for replica in pool.replicas)
                replicas.update({(replica.revision, replica.backend): replica for replica in own})

    @staticmethod
    def _newer(table: RoutingTable, present: RoutingTable) -> bool:
        if table.version > present.version:
            return True
        if table == present:
            return False
        raise StaleVersion(
            f"routing table {table.version} is refused",
            why=f"version {present.version} is in use"
            if table.version < present.version
            else "same version, other content",
            allowed=f"versions above {present.version}",
        )


def _accepted(
    services: Sequence[ServiceRoute], present: Mapping[str, Route]
) -> tuple[Sequence[ServiceRoute], dict[str, str]]:
    """Return the routes to use and why others are not: of two services of one model the one stays that served it."""
    by_model: dict[str, ServiceRoute] = {}
    refused: dict[str, str] = {}
    for service in services:
        other = by_model.setdefault(service.model, service)
        if other is service:
            continue
        holder = present.get(service.model)
        winner, loser = (service, other) if holder and holder.service == service.service else (other, service)
        by_model[service.model] = winner
        refused[loser.service] = f"model {loser.model} is served by {winner.service}"
    return list(by_model.values()), refused


def _route(
    service: ServiceRoute, known: Mapping[tuple[str, Backend], Replica], used: dict[tuple[str, Backend], Replica]
) -> Route:
    pools = tuple(_pool(revision, known, used) for revision in service.revisions)
    return Route(
        service=service.service,
        model=service.model,
        pools=pools,
        options=service.options,
        adapters={adapter.name: adapter for adapter in service.adapters},
        versions={version.name: version for version in service.versions},
        hold=service.hold,
        split_by=service.split_by,
        sampling=service.sampling,
    )


def _pool(
    revision: RevisionRoute, known: Mapping[tuple[str, Backend], Replica], used: dict[tuple[str, Backend], Replica]
) -> Pool:
    replicas = []
    for backend in revision.backends:
        key = (revision.revision, backend)
        used[key] = known.get(key) or used.get(key) or Replica(backend, revision.revision)
        replicas.append(used[key])
    return Pool(revision.revision, revision.weight_percent, tuple(replicas), revision.concurrency_limit)
