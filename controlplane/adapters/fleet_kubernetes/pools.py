"""InferencePools of revisions: what a route names where an endpoint picker chooses the pod of each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from controlplane.adapters.fleet_kubernetes.door import Door, Json, Place
from controlplane.adapters.fleet_kubernetes.route import POOL_GROUP, POOLS, pool
from controlplane.domain.base import ServiceName
from controlplane.domain.cluster import RouteOptions
from controlplane.domain.door.routing import RoutingTable
from controlplane.domain.errors import Conflict, Forbidden, NotFound, StaleVersion, Unavailable

PREFIX = f"apis/{POOL_GROUP}/v1"
PLURAL = "inferencepools"
NONE_HERE = f"the cluster has no InferencePool ({POOL_GROUP}/v1)"

Options = Callable[[ServiceName], RouteOptions | None]
"""How a service is routed; None: not by the cluster's gateway."""


class Pools:
    """Those of one namespace. Written before the routes that name them, and gone after."""

    def __init__(self, door: Door, namespace: str, *, options: Options) -> None:
        self._door, self._options = door, options
        self._place = Place(PREFIX, PLURAL, namespace)

    def write(self, table: RoutingTable) -> frozenset[str]:
        """Make the pools that the table's routes name; return their names. Raises Unavailable."""
        wanted = list(self._wanted(table))
        try:
            for value in wanted:
                self._door.apply(self._place, value)
        except StaleVersion:
            raise
        except Conflict as error:
            raise Unavailable("an InferencePool is not as asked", why=str(error)) from error
        except NotFound as error:
            raise Unavailable(
                "pools of the cluster's gateway are off",
                why=NONE_HERE,
                allowed="its custom resource definition, or no kubernetes.route.picker",
            ) from error
        return frozenset(each["metadata"]["name"] for each in wanted)

    def leave(self, names: frozenset[str]) -> None:
        """Delete the pools that no route names any more."""
        try:
            present = self._door.list(self._place, labelSelector=POOLS)["items"]
        except (NotFound, Forbidden):  # no add-on, or nobody here ever made one
            return
        for each in present:
            if each["metadata"]["name"] not in names:
                self._door.delete(self._place, each["metadata"]["name"])

    def _wanted(self, table: RoutingTable) -> Iterator[Json]:
        for service in table.services:
            how = self._options(ServiceName(service.service))
            if how is not None and how.picker is not None:
                for each in service.revisions:
                    name = ServiceName(service.service)
                    yield pool(name, each.revision, how.picker, namespace=str(self._place.namespace))
