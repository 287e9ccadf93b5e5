"""What can be wrong with a cluster, asked before anything is started: each a message that says what to do."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.adapters.fleet_kubernetes.door import Door, Place
from controlplane.adapters.fleet_kubernetes.manifests import Manifest, manifests
from controlplane.adapters.fleet_kubernetes.names import SELECTOR
from controlplane.adapters.fleet_kubernetes.nodes import Gpus
from controlplane.adapters.fleet_kubernetes.pools import NONE_HERE as NO_POOLS
from controlplane.adapters.fleet_kubernetes.pools import PLURAL as POOL_PLURAL
from controlplane.adapters.fleet_kubernetes.pools import PREFIX as POOLS_AT
from controlplane.adapters.fleet_kubernetes.refusals import NO_DRY_RUN
from controlplane.adapters.fleet_kubernetes.rights import ENGINES, POOLS, ROUTES, SETS, Right, require
from controlplane.adapters.fleet_kubernetes.route import POOL, ROUTE
from controlplane.adapters.fleet_kubernetes.routes import PREFIX as ROUTES_AT
from controlplane.adapters.fleet_kubernetes.sets import KIND as SET
from controlplane.adapters.fleet_kubernetes.sets import PLURAL, no_sets
from controlplane.adapters.fleet_kubernetes.sets import PREFIX as SETS_AT
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from controlplane.domain.service import ServiceSpec

_PLACES = {
    "Deployment": ("apis/apps/v1", "deployments"),
    "Service": ("api/v1", "services"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    SET: (SETS_AT, PLURAL),
    POOL: (POOLS_AT, POOL_PLURAL),
    ROUTE: (ROUTES_AT, "httproutes"),
}


def check_cluster(door: Door, namespace: str, specs: Sequence[ServiceSpec]) -> None:
    """Ask a cluster whether these services could run there; nothing is stored.

    Raises NotFound for a namespace that is not there, Forbidden naming the verb and resource of a missing right,
    Unavailable when no node has the GPUs, InvalidInput when a service is not described for this namespace, asks for an
    add-on that is not installed, or the server would refuse its objects.
    """
    _require_namespace(door, namespace)
    require(door, namespace, _needed(specs))
    for plural, prefix in (("deployments", "apis/apps/v1"), ("pods", "api/v1")):
        door.list(Place(prefix, plural, namespace), labelSelector=SELECTOR, limit="1")
    nodes = door.list(Place("api/v1", "nodes"))["items"]
    for spec in specs:
        cluster = described_for(spec, namespace)
        if gpus := spec.baseline.gpus_per_replica:
            Gpus(nodes, cluster.gpu_resource).require(min(gpus, cluster.gpus_per_node), cluster.node_selector)
        if cluster.route is not None:
            _require_gateway_api(door, namespace, spec)
        if cluster.route is not None and cluster.route.picker is not None:
            _require_pools(door, namespace, spec, cluster)
        for manifest in manifests(spec, cluster, spec.baseline, replicas=0):
            _ask(door, Place(*_PLACES[manifest["kind"]], namespace), manifest, spec)


def _needed(specs: Sequence[ServiceSpec]) -> Sequence[Right]:
    on_cluster = [spec.kubernetes for spec in specs if spec.kubernetes is not None]
    spans = any(
        spec.kubernetes is not None and spec.baseline.gpus_per_replica > spec.kubernetes.gpus_per_node for spec in specs
    )
    routed = any(each.route is not None for each in on_cluster)
    pooled = any(each.route is not None and each.route.picker is not None for each in on_cluster)
    return (*ENGINES, *(SETS if spans else ()), *(ROUTES if routed else ()), *(POOLS if pooled else ()))


def _ask(door: Door, place: Place, manifest: Manifest, spec: ServiceSpec) -> None:
    try:
        door.apply(place, manifest, dry_run=True)
    except Conflict:  # it is there, and somebody else set a part of it: told when that is to be changed
        return
    except InvalidInput as error:
        if NO_DRY_RUN not in error.why:
            raise
    except NotFound as error:
        if manifest["kind"] != SET:
            raise
        raise no_sets(f"a replica of service {spec.name} spans nodes") from error


def described_for(spec: ServiceSpec, namespace: str) -> ClusterOptions:
    """Return where a service's pods run. Raises InvalidInput when it does not say, or names another namespace."""
    if spec.kubernetes is None:
        raise InvalidInput(
            f"service {spec.name} does not say how it runs on a cluster",
            why="it has no `kubernetes:` section",
            allowed="kubernetes: {image: registry/name@sha256:..., namespace: ...}",
        )
    if spec.kubernetes.namespace != namespace:
        raise InvalidInput(
            f"service {spec.name} is described for namespace {spec.kubernetes.namespace}",
            allowed=f"one installation serves one namespace: {namespace}",
        )
    return spec.kubernetes


def _require_gateway_api(door: Door, namespace: str, spec: ServiceSpec) -> None:
    try:
        door.list(Place(ROUTES_AT, "httproutes", namespace), limit="1")
    except NotFound as error:
        raise InvalidInput(
            f"service {spec.name} asks for a route of the cluster's gateway",
            why="the cluster has no Gateway API (gateway.networking.k8s.io/v1)",
            allowed="its custom resource definitions, or no kubernetes.route: Fleetune's own gateway splits without",
        ) from error


def _require_pools(door: Door, namespace: str, spec: ServiceSpec, cluster: ClusterOptions) -> None:
    if spec.baseline.gpus_per_replica > cluster.gpus_per_node:
        raise InvalidInput(
            f"service {spec.name} asks for an endpoint picker",
            why="its replicas span nodes: a pool would hold the pods that do not serve, too",
            allowed="no kubernetes.route.picker: a Service of the leaders",
        )
    try:
        door.list(Place(POOLS_AT, POOL_PLURAL, namespace), limit="1")
    except NotFound as error:
        raise InvalidInput(
            f"service {spec.name} asks for an endpoint picker",
            why=NO_POOLS,
            allowed="its custom resource definition, or no kubernetes.route.picker",
        ) from error


def _require_namespace(door: Door, namespace: str) -> None:
    try:
        found = door.get(Place("api/v1", "namespaces"), namespace)
    except Forbidden:  # few may look at namespaces; what is asked next would fail too
        return
    if found is None:
        raise NotFound(f"namespace {namespace} does not exist", allowed=f"kubectl create namespace {namespace}")
    if found["metadata"].get("deletionTimestamp"):
        raise Unavailable(f"namespace {namespace} is being deleted", allowed="one that stays")
