"""The routing table in use: taking a new one, finding a route, keeping replicas across tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controlplane.domain.errors import InvalidInput, StaleVersion
from controlplane.domain.routing import Backend, RevisionRoute, RoutingTable, ServiceRoute
from controlplane.gateway.pools import Pool, Replica, Route


class Routing:
    """The present table with its replicas. Starts empty; streams on removed replicas go on to their end."""

    def __init__(self) -> None:
        self.table: RoutingTable | None = None
        self._routes: Mapping[str, Route] = {}
        self._replicas: dict[tuple[str, Backend], Replica] = {}
        self._leaving: list[Replica] = []

    @property
    def ready(self) -> bool:
        """Say whether at least one model can be served."""
        return any(route.served for route in self._routes.values())

    def route(self, model: str) -> Route | None:
        return self._routes.get(model)

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

    def take(self, table: RoutingTable) -> bool:
        """Use `table` from now on; False when it is the present one already.

        Raises StaleVersion for an older version, or the same version with other content; InvalidInput when two
        services claim one model.
        """
        if self.table is not None and not self._newer(table, self.table):
            return False
        known = self._replicas | {(r.revision, r.backend): r for r in self.leaving()}
        replicas: dict[tuple[str, Backend], Replica] = {}
        routes = _routes(table, known, replicas)
        self._leaving = [r for key, r in known.items() if key not in replicas and r.in_flight]
        self.table, self._routes, self._replicas = table, routes, replicas
        return True

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


def _routes(
    table: RoutingTable, known: Mapping[tuple[str, Backend], Replica], used: dict[tuple[str, Backend], Replica]
) -> Mapping[str, Route]:
    routes: dict[str, Route] = {}
    for service in table.services:
        if service.model in routes:
            raise InvalidInput(
                f"model {service.model} is routed twice", why=f"{routes[service.model].service} and {service.service}"
            )
        routes[service.model] = _route(service, known, used)
    return routes


def _route(
    service: ServiceRoute, known: Mapping[tuple[str, Backend], Replica], used: dict[tuple[str, Backend], Replica]
) -> Route:
    pools = tuple(_pool(revision, known, used) for revision in service.revisions)
    return Route(service=service.service, model=service.model, pools=pools, options=service.options)


def _pool(
    revision: RevisionRoute, known: Mapping[tuple[str, Backend], Replica], used: dict[tuple[str, Backend], Replica]
) -> Pool:
    replicas = []
    for backend in revision.backends:
        key = (revision.revision, backend)
        used[key] = known.get(key) or used.get(key) or Replica(backend, revision.revision)
        replicas.append(used[key])
    return Pool(revision.revision, revision.weight_percent, tuple(replicas))
