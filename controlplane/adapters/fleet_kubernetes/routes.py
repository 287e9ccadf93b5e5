"""TrafficRouter by HTTPRoutes of the Gateway API: the cluster's own gateway splits over one Service per revision.

A route carries weights only: no keys, no limits, no queue, and no record is written of what it sends. Which weights
are in force is read from the routes themselves each time, and a route counts only once its gateway says that it took
this very generation of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from controlplane.adapters.fleet_kubernetes.door import Door, Json, Place
from controlplane.adapters.fleet_kubernetes.pools import Options, Pools
from controlplane.adapters.fleet_kubernetes.retries import attempts, overtaken
from controlplane.adapters.fleet_kubernetes.route import (
    OF_SERVICE,
    SELECTOR,
    SERVICE,
    VERSION,
    answering,
    httproute,
    objection,
    says,
    weights_of,
)
from controlplane.adapters.fleet_kubernetes.watched import Watched, end, end_with
from controlplane.domain.base import ServiceName
from controlplane.domain.door.routing import RoutingTable
from controlplane.domain.errors import Conflict, Forbidden, NotFound, StaleVersion, Unavailable

PREFIX = "apis/gateway.networking.k8s.io/v1"
SLICES = "apis/discovery.k8s.io/v1"
_LOOK_S = 0.05
_SETTLE_S = 1.0
"""A gateway usually takes a route within this; one that takes longer is looked at again in the next pass."""


class RouteTraffic:
    """Routes of the services that ask for one. Holds its watches from the first such service on, until `close`."""

    def __init__(
        self,
        door: Door,
        namespace: str,
        *,
        options: Options,
        settle_s: float = _SETTLE_S,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door, self._options, self._settle_s, self._steady = door, options, settle_s, steady
        self._place = Place(PREFIX, "httproutes", namespace)
        self._routes = Watched(door, self._place, selector=SELECTOR)
        self._slices = Watched(door, Place(SLICES, "endpointslices", namespace), selector=OF_SERVICE)
        end_with(self, self._routes, self._slices)
        self._pools = Pools(door, namespace, options=options)
        self._given: RoutingTable | None = None
        self._is_used = False

    def close(self) -> None:
        end(self._routes, self._slices)

    def apply(self, table: RoutingTable) -> None:
        """Write every route of the table, and delete those of services that are not in it.

        Raises StaleVersion when a newer table was written, Unavailable when a route is not in force: somebody else set
        it, the cluster has no Gateway API, or the gateway did not take it yet.
        """
        wanted = self._wanted(table)
        self._is_used = self._is_used or bool(wanted)
        written = self._write_all(wanted, table) if self._is_used else []
        self._given = table
        self._settle(written)

    def actual(self) -> Sequence[RoutingTable | None]:
        """Return the table in force: nothing where no service is routed, None while a gateway has not taken a route.

        Before the first table of this process nothing is known: None.
        """
        given = self._given
        if given is None or not self._is_used:
            return [None] if given is None else []
        present, wanted = self._present(), self._wanted(given)
        if any(objection(route) for route in present.values()):
            return [None]
        if present.keys() == wanted.keys() and all(says(present[name], wanted[name]) for name in wanted):
            return [given]
        return [RoutingTable(version=max(map(_version, present.values()), default=0))]

    def _wanted(self, table: RoutingTable) -> Mapping[ServiceName, Json]:
        named = ((service, self._options(ServiceName(service.service))) for service in table.services)
        routed = [(service, how) for service, how in named if how is not None]
        answer = answering(self._endpoint_slices()) if routed else frozenset[str]()
        namespace = str(self._place.namespace)
        return {
            ServiceName(service.service): httproute(
                service, how, version=table.version, namespace=namespace, answering=answer
            )
            for service, how in routed
        }

    def _endpoint_slices(self) -> Sequence[Json]:
        try:
            return self._slices.items()
        except Forbidden as error:
            raise Unavailable("routes stay as they are: nobody knows which Services answer", why=str(error)) from error

    def weights(self) -> Mapping[ServiceName, Mapping[str, int]]:
        """Return the weights of each service's route as they are, by the name of the revision's Service."""
        return {service: weights_of(route) for service, route in self._present().items()}

    def _present(self) -> dict[ServiceName, Json]:
        try:
            found = self._routes.items()
        except NotFound as error:
            raise Unavailable(
                "routes of the cluster's gateway are off",
                why="the cluster has no Gateway API (gateway.networking.k8s.io/v1)",
                allowed="its custom resource definitions, or services without kubernetes.route",
            ) from error
        return {ServiceName(each["metadata"]["labels"][SERVICE]): each for each in found}

    def _write_all(self, wanted: Mapping[ServiceName, Json], table: RoutingTable) -> Sequence[Json]:
        present, pools = self._present(), self._pools.write(table)
        written = [self._write(service, value, table.version, present) for service, value in wanted.items()]
        for service in present.keys() - wanted.keys():
            self._door.delete(self._place, present[service]["metadata"]["name"])
        self._pools.leave(pools)
        return written

    def _write(self, service: ServiceName, value: Json, version: int, present: Mapping[ServiceName, Json]) -> Json:
        """Write one route; its gateway says something of it at any time, and then it is looked at again."""
        for _ in attempts():
            guarded = _guarded(value, present.get(service), version)
            try:
                written = self._door.apply(self._place, guarded)
            except StaleVersion:
                self._routes.ask()
                present = self._present()
                continue
            except Conflict as error:
                raise Unavailable(f"the route of {service} is not as asked", why=str(error)) from error
            self._routes.heard(written)
            return written
        now = self._door.get(self._place, value["metadata"]["name"])  # what is kept of it says not who wrote
        raise Unavailable(f"the route of {service} is not changed", why=overtaken(now))

    def _settle(self, written: Sequence[Json]) -> None:
        """Wait a moment for the gateway to take what was written. Raises Unavailable."""
        names, give_up_s = {each["metadata"]["name"] for each in written}, self._steady() + self._settle_s
        while names:
            mine = [each for each in self._present().values() if each["metadata"]["name"] in names]
            objections = [f"{each['metadata']['name']}: {why}" for each in mine if (why := objection(each))]
            if not objections:
                return
            if self._steady() >= give_up_s:
                raise Unavailable("the cluster's gateway did not take every route", why="; ".join(objections))
            time.sleep(_LOOK_S)


def _version(route: Json) -> int:
    said = route["metadata"].get("annotations", {}).get(VERSION, "0")
    return int(said) if said.isdigit() else 0


def _guarded(value: Json, present: Json | None, version: int) -> Json:
    """Return a route to be written over the present one, and over no other. Raises StaleVersion when that is newer."""
    if present is None:
        return value
    _refuse_stale(present, value, version)
    same = {name: present["metadata"][name] for name in ("uid", "resourceVersion")}
    return {**value, "metadata": {**value["metadata"], **same}}


def _refuse_stale(present: Json, wanted: Json, version: int) -> None:
    newest = _version(present)
    if newest > version or (newest == version and not says(present, wanted)):
        raise StaleVersion(f"route {present['metadata']['name']} is not changed", why=f"it is of table {newest}")
