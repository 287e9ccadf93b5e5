"""One HTTPRoute: how a service's weights are written into it, and what its gateway says of it. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from controlplane.adapters.fleet_kubernetes.door import Json
from controlplane.adapters.fleet_kubernetes.names import GROUP, group_name, labels_of, route_name
from controlplane.adapters.fleet_kubernetes.pods import PORT
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.cluster import PickerOptions, RouteOptions
from controlplane.domain.door.routing import RevisionRoute, ServiceRoute
from controlplane.domain.owner import ReplicaOwner

SERVICE = "fleetune.dev/service"
VERSION = "fleetune.dev/routing-table"
"""The annotation with the version of the table that a route was last written from."""
SELECTOR = "app.kubernetes.io/managed-by=fleetune,app.kubernetes.io/component=route"
OF_SERVICE = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its Service."""
ROUTE, POOL = "HTTPRoute", "InferencePool"
POOL_GROUP = "inference.networking.k8s.io"
POOLS = "app.kubernetes.io/managed-by=fleetune,app.kubernetes.io/component=pool"
_GROUP = "gateway.networking.k8s.io"
_WANTED = {"Accepted": "did not accept it", "ResolvedRefs": "cannot send to a Service it names"}


def httproute(
    service: ServiceRoute, how: RouteOptions, *, version: int, namespace: str, answering: Container[str]
) -> Json:
    """Return the route of one service, every default written out: what is read back is what was written.

    A revision without a ready replica gets nothing, as at Fleetune's own gateway: the Service behind it answers nobody.
    Nor does one whose Service is not among `answering`: the cluster's gateway sends where its endpoints are.
    """
    name = ServiceName(service.service)
    weights = dict(_weight(name, each, answering) for each in service.revisions)
    found = route_to(name, how, weights, namespace=namespace)
    return {**found, "metadata": {**found["metadata"], "annotations": {VERSION: str(version)}}}


def route_to(service: ServiceName, how: RouteOptions, weights: Mapping[str, int], *, namespace: str) -> Json:
    """Return the route of one service to its revisions, by the names of their Services or pools."""
    labels = {"app.kubernetes.io/managed-by": "fleetune", "app.kubernetes.io/component": "route"}
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": ROUTE,
        "metadata": {
            "name": route_name(service),
            "namespace": namespace,
            "labels": {**labels, SERVICE: service},
        },
        "spec": {
            "parentRefs": [_parent(how)],
            "hostnames": [how.hostname],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [_backend(name, weight, how) for name, weight in weights.items()],
                    "timeouts": {"request": "0s"},  # streams last for minutes
                }
            ],
        },
    }


def pool(service: ServiceName, revision: RevisionId, picker: PickerOptions, *, namespace: str) -> Json:
    """Return the InferencePool of one revision's pods, every default written out; spot ones are among them."""
    owner = ReplicaOwner(service, revision)
    mine = {"app.kubernetes.io/managed-by": "fleetune", "app.kubernetes.io/component": "pool", SERVICE: service}
    pods = {name: value for name, value in labels_of(owner).items() if name != GROUP}
    return {
        "apiVersion": f"{POOL_GROUP}/v1",
        "kind": POOL,
        "metadata": {"name": group_name(owner), "namespace": namespace, "labels": mine},
        "spec": {
            "selector": {"matchLabels": pods},
            "targetPorts": [{"number": PORT}],
            "appProtocol": "http",
            "endpointPickerRef": {
                "group": "",
                "kind": "Service",
                "name": picker.service,
                "port": {"number": picker.port},
                "failureMode": "FailClose",
            },
        },
    }


def answering(slices: Iterable[Json]) -> frozenset[str]:
    """Return the Services with an endpoint that takes requests, by the cluster's own account (EndpointSlices)."""
    return frozenset(
        each["metadata"]["labels"][OF_SERVICE]
        for each in slices
        if any(_takes(endpoint) for endpoint in each.get("endpoints") or ())
    )


def weights_of(route: Json) -> Mapping[str, int]:
    """Return the weights of a route by the name of the Service, those of weight 0 too."""
    refs = [ref for rule in route["spec"].get("rules", []) for ref in rule.get("backendRefs", [])]
    return {ref["name"]: ref.get("weight", 1) for ref in refs}


def says(route: Json, wanted: Json) -> bool:
    """Say whether a route is as wanted: the same gateway, hosts, back ends and weights. What else its server or a later
    definition of the kind writes into it counts for nothing.
    """
    return _holds(route["spec"], wanted["spec"])


def _holds(there: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(_holds(there.get(name), each) for name, each in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(_holds, there, wanted))
    return bool(there == wanted)


def objection(route: Json) -> str | None:
    """Return why a route is not in force as written, None when its gateway says that it is."""
    generation = route["metadata"].get("generation", 0)
    parents = [each for each in route.get("status", {}).get("parents", []) if _is_of(each, route)]
    if not parents:
        return "no gateway has looked at it"
    for parent in parents:
        conditions = {each["type"]: each for each in parent.get("conditions", [])}
        for kind, meaning in _WANTED.items():
            found = conditions.get(kind, {})
            if found.get("observedGeneration", 0) < generation:
                return f"its gateway has not seen generation {generation}"
            if found.get("status") != "True":
                return f"its gateway {meaning}: {found.get('reason')}: {found.get('message')}"
    return None


def _takes(endpoint: Json) -> bool:
    """Without a word of the controller an endpoint counts as ready, as the API says."""
    ready: bool | None = (endpoint.get("conditions") or {}).get("ready")
    return ready is not False


def _parent(how: RouteOptions) -> Json:
    found: Json = {"group": _GROUP, "kind": "Gateway", "name": how.gateway}
    if how.gateway_namespace is not None:
        found["namespace"] = how.gateway_namespace
    if how.section is not None:
        found["sectionName"] = how.section
    return found


def _weight(service: ServiceName, revision: RevisionRoute, answering: Container[str]) -> tuple[str, int]:
    name = group_name(ReplicaOwner(service, revision.revision))
    return name, revision.weight_percent if revision.backends and name in answering else 0


def _backend(name: str, weight: int, how: RouteOptions) -> Json:
    if how.picker is not None:
        return {"group": POOL_GROUP, "kind": POOL, "name": name, "weight": weight}
    return {"group": "", "kind": "Service", "name": name, "port": PORT, "weight": weight}


def _is_of(parent: Json, route: Json) -> bool:
    refs = [ref["name"] for ref in route["spec"].get("parentRefs", [])]
    return parent.get("parentRef", {}).get("name") in refs
