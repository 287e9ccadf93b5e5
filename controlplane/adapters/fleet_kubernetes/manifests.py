"""The manifests of one revision: a Deployment whose template never changes, its Service and its disruption budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.pods import PORT, pod_template
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engine import EngineConfig
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.revision import revision_id
from controlplane.domain.service import ServiceSpec

Manifest = dict[str, Any]
"""One object as the API server takes it: plain JSON values."""


def manifests(spec: ServiceSpec, cluster: ClusterOptions, config: EngineConfig, *, replicas: int) -> list[Manifest]:
    """Return what makes one revision run, in the order to apply it. Raises InvalidInput when a cluster cannot run it.

    Roles (stable, canary) are nowhere in it: a promotion changes no pod template.
    """
    revision = revision_id(spec.service, spec.model, spec.engine, config)
    name, labels = f"{spec.name}-{revision}", _labels(spec, revision)
    owner = ReplicaOwner(spec.service, revision)
    engine = engine_spec(EngineId(name), owner, model=spec.model, engine=spec.engine, gpus=spec.gpus, config=config)
    meta = client.V1ObjectMeta(name=name, namespace=cluster.namespace, labels=labels)
    selector = client.V1LabelSelector(match_labels=labels)
    deployment = client.V1Deployment(
        api_version="apps/v1",
        kind="Deployment",
        metadata=meta,
        spec=client.V1DeploymentSpec(
            replicas=replicas,
            selector=selector,
            strategy=client.V1DeploymentStrategy(type="Recreate"),  # the template never changes; GPUs are not doubled
            template=pod_template(engine, cluster, labels),
        ),
    )
    service = client.V1Service(
        api_version="v1",
        kind="Service",
        metadata=meta,
        spec=client.V1ServiceSpec(
            selector=labels, ports=[client.V1ServicePort(name="http", port=PORT, target_port="http")]
        ),
    )
    budget = client.V1PodDisruptionBudget(
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        metadata=meta,
        spec=client.V1PodDisruptionBudgetSpec(max_unavailable=1, selector=selector),
    )
    return [_plain(each) for each in (deployment, service, budget)]


def as_yaml(found: list[Manifest]) -> str:
    """Return manifests as one YAML stream, the same text for the same manifests."""
    return yaml.safe_dump_all(found, sort_keys=True, default_flow_style=False, width=120)


def _labels(spec: ServiceSpec, revision: str) -> Mapping[str, str]:
    return {
        "app.kubernetes.io/name": spec.name,
        "app.kubernetes.io/component": "engine",
        "app.kubernetes.io/managed-by": "fleetune",
        "fleetune.dev/service": spec.name,
        "fleetune.dev/revision": revision,
    }


def _plain(model: object) -> Manifest:
    found: Manifest = client.ApiClient().sanitize_for_serialization(model)  # type: ignore[no-untyped-call]
    return found
