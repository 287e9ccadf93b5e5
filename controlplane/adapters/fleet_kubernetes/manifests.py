"""The manifests of one revision: a Deployment whose template never changes, its Service, its disruption budget, and the
route of a service that asks for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.names import GROUP, group_name, labels_of
from controlplane.adapters.fleet_kubernetes.pods import PORT, nodes_of, pod_template
from controlplane.adapters.fleet_kubernetes.route import pool, route_to
from controlplane.adapters.fleet_kubernetes.sets import LEADER, leader_worker_set
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import Owner, ReplicaOwner
from controlplane.domain.revision import revision_id
from controlplane.domain.service import ServiceSpec

Manifest = dict[str, Any]
"""One object as the API server takes it: plain JSON values."""


def manifests(
    spec: ServiceSpec,
    cluster: ClusterOptions,
    config: EngineConfig,
    *,
    replicas: int | None,
    start_budget_s: float | None = None,
) -> list[Manifest]:
    """Return what makes one revision run, in the order to apply it. Raises InvalidInput when a cluster cannot run it.

    Roles (stable, canary) are nowhere in it: a promotion changes no pod template. `replicas` None leaves their number
    to an autoscaler of the cluster. `start_budget_s` is the revision's own, None for one that nobody measured.
    """
    owner = owner_of(spec, config)
    name = EngineId(group_name(owner))
    served = spec.served_by(config)
    engine = engine_spec(
        name,
        owner,
        model=served.model,
        engine=served.engine,
        gpus=spec.gpus,
        config=config,
        start_budget_s=start_budget_s,
    )
    if nodes_of(engine, cluster) == 1:
        made = deployment(engine, cluster, replicas=replicas)
    else:
        made = leader_worker_set(engine, cluster, name=str(name), replicas=replicas)
    return [made, service(engine, cluster), budget(engine, cluster), *_routed(owner, cluster)]


def _routed(owner: ReplicaOwner, cluster: ClusterOptions) -> list[Manifest]:
    """Return the route of a service that asks for one, all of it to this revision, and the pool that it names."""
    how, namespace = cluster.route, cluster.namespace
    if how is None:
        return []
    pools = [] if how.picker is None else [pool(owner.service, owner.revision, how.picker, namespace=namespace)]
    return [*pools, route_to(owner.service, how, {group_name(owner): 100}, namespace=namespace)]


def owner_of(spec: ServiceSpec, config: EngineConfig) -> ReplicaOwner:
    """Return whose the replicas of a service with these flags are."""
    served = spec.served_by(config)
    return ReplicaOwner(spec.service, revision_id(spec.service, served.model, served.engine, config))


def deployment(
    engine: EngineSpec, cluster: ClusterOptions, *, replicas: int | None, annotations: Mapping[str, str] | None = None
) -> Manifest:
    """Return the Deployment of all engines that run this. Raises InvalidInput when a cluster cannot run it."""
    labels = labels_of(engine.owner, spot=engine.spot)
    selector = client.V1LabelSelector(match_labels=labels)
    made = client.V1Deployment(
        api_version="apps/v1",
        kind="Deployment",
        metadata=_meta(engine.owner, cluster, annotations, spot=engine.spot),
        spec=client.V1DeploymentSpec(
            replicas=replicas,
            selector=selector,
            strategy=client.V1DeploymentStrategy(type="Recreate"),  # the template never changes; GPUs are not doubled
            template=pod_template(engine, cluster, labels),
        ),
    )
    return plain(made)


def same_deployment(present: Mapping[str, Any], *, replicas: int, annotations: Mapping[str, str]) -> Manifest:
    """Return a Deployment as it is, but for its replicas and what is noted on it, at the version it was read at.

    Its pod template is what the server has: a later Fleetune, or another description, would replace running pods. Its
    uid is named too: without it, applying to a Deployment that somebody deleted would make it again.
    """
    metadata, spec = present["metadata"], present["spec"]
    template = {**spec["template"], "metadata": {"labels": spec["template"]["metadata"]["labels"]}}
    kept = {name: metadata[name] for name in ("name", "namespace", "labels", "uid", "resourceVersion")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**kept, "annotations": dict(annotations)},
        "spec": {
            "replicas": replicas,
            "selector": spec["selector"],
            "strategy": spec["strategy"],
            "template": template,
        },
    }


def service(engine: EngineSpec, cluster: ClusterOptions) -> Manifest:
    """Return the Service of one revision's pods."""
    port = client.V1ServicePort(name="http", port=PORT, target_port="http", protocol="TCP")
    made = client.V1Service(
        api_version="v1",
        kind="Service",
        metadata=_meta(engine.owner, cluster),
        spec=client.V1ServiceSpec(selector=_serving(engine, cluster), ports=[port]),
    )
    return plain(made)


def budget(engine: EngineSpec, cluster: ClusterOptions) -> Manifest:
    """Return what keeps a drain of nodes from taking more than one replica at a time."""
    made = client.V1PodDisruptionBudget(
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        metadata=_meta(engine.owner, cluster),
        spec=client.V1PodDisruptionBudgetSpec(
            max_unavailable=1, selector=client.V1LabelSelector(match_labels=_serving(engine, cluster))
        ),
    )
    return plain(made)


def _serving(engine: EngineSpec, cluster: ClusterOptions) -> dict[str, str]:
    """Return the labels of the pods of a revision that answer, spot or not: of several nodes the leader alone."""
    labels = labels_of(engine.owner)
    of_all = {name: value for name, value in labels.items() if name != GROUP}
    if nodes_of(engine, cluster) == 1:
        return labels if cluster.spot is None else of_all
    return {**of_all, LEADER: "0"}


def as_yaml(found: list[Manifest]) -> str:
    """Return manifests as one YAML stream, the same text for the same manifests."""
    return yaml.safe_dump_all(found, sort_keys=True, default_flow_style=False, width=120)


def _meta(
    owner: Owner, cluster: ClusterOptions, annotations: Mapping[str, str] | None = None, *, spot: bool = False
) -> client.V1ObjectMeta:
    return client.V1ObjectMeta(
        name=group_name(owner, spot=spot),
        namespace=cluster.namespace,
        labels=labels_of(owner, spot=spot),
        annotations=None if annotations is None else dict(annotations),
    )


def plain(model: object) -> Manifest:
    """Return an object of the client's models as the server takes it."""
    found: Manifest = client.ApiClient().sanitize_for_serialization(model)  # type: ignore[no-untyped-call]
    return found
