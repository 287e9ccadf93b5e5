"""Replicas of one revision that the cluster itself scales: a KEDA ScaledObject, or a HorizontalPodAutoscaler. Pure.

For manifests that somebody else applies (`fleetune render --autoscale`). Engines that Fleetune's own controller starts
are counted by its ledger (decision 26): it scales those itself, and the two must not meet on one Deployment.
"""

from __future__ import annotations

import math
from enum import StrEnum

from controlplane.adapters.fleet_kubernetes.manifests import Manifest
from controlplane.adapters.fleet_kubernetes.names import GROUP, group_name, labels_of
from controlplane.domain.base import Value
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.errors import InvalidInput
from controlplane.domain.operations.replica_capacity import ReplicaCapacity
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.service import ServiceSpec

PAUSED = "autoscaling.keda.sh/paused-scale-in"
_EVERY_S = 15
_FAILURES = 3
_ONE_POD = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}


class Autoscaler(StrEnum):
    """Who scales on the cluster."""

    KEDA = "keda"
    HPA = "hpa"


class Scaling(Value):
    """What one revision is scaled by: the most it may be, and what one replica sustains of the load."""

    capacity: ReplicaCapacity
    headroom: float
    max_replicas: int
    prometheus_url: str
    target: tuple[str, str] = ("apps/v1", "Deployment")  # the version and kind of what is scaled
    in_rollout: bool = False


def scaled_object(spec: ServiceSpec, owner: ReplicaOwner, cluster: ClusterOptions, scaling: Scaling) -> Manifest:
    """Return KEDA's object: load over what a replica sustains, and what waits, both as the engines count them.

    Gateways of Fleetune's send nothing to replicas that they did not hear of from its controller: only the engines
    themselves know what came, by a route of the cluster. Raises InvalidInput when it is to go to zero.

    A query without an answer is a failure and not a load of nothing (`ignoreNullValues`): after three the replicas
    stay, or become those of the start if there are fewer. In a rollout none goes.
    """
    where = f'service="{owner.service}",revision="{owner.revision}"'
    load = f"sum(rate(vllm:request_success_total{{{where}}}[1m]))"
    triggers = [_trigger("load", load, per_replica(scaling), scaling.prometheus_url)]
    crowd = scaling.capacity.concurrency_limit
    if crowd is not None:
        waiting = f"sum(vllm:num_requests_waiting{{{where}}})"
        triggers.append(_trigger("waiting", waiting, float(crowd), scaling.prometheus_url))
    options, least = spec.autoscale, _least(spec)
    annotations = {PAUSED: "true"} if scaling.in_rollout else {}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {**_head(owner, cluster), **({"annotations": annotations} if annotations else {})},
        "spec": {
            "scaleTargetRef": _target(owner, scaling),
            "minReplicaCount": least,
            "maxReplicaCount": scaling.max_replicas,
            "pollingInterval": _EVERY_S,
            "cooldownPeriod": math.ceil(options.scale_in_after_s),
            "fallback": {
                "failureThreshold": _FAILURES,
                "replicas": max(spec.initial_replicas, least),
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": _slowly(spec)}}},
            "triggers": triggers,
        },
    }


def pod_autoscaler(spec: ServiceSpec, owner: ReplicaOwner, cluster: ClusterOptions, scaling: Scaling) -> Manifest:
    """Return the HorizontalPodAutoscaler for clusters without KEDA: requests in each engine, by a metrics adapter.

    Raises InvalidInput when nobody knows how many requests a replica holds at its rate, or when it is to go to zero.
    """
    least, crowd = _least(spec), scaling.capacity.concurrent
    if crowd is None or crowd.value <= 0:
        raise InvalidInput(
            f"{owner.service} cannot be scaled by requests in its engines",
            why="no study measured how many a replica holds at its rate",
            allowed="--autoscale keda, which scales by the rate",
        )
    target = {"type": "AverageValue", "averageValue": _quantity(crowd.value * (1 - scaling.headroom))}
    metric = {"metric": {"name": "vllm_num_requests_running"}, "target": target}
    slowly = {**_slowly(spec), **({"selectPolicy": "Disabled"} if scaling.in_rollout else {})}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _head(owner, cluster),
        "spec": {
            "scaleTargetRef": _target(owner, scaling),
            "minReplicas": least,
            "maxReplicas": scaling.max_replicas,
            "metrics": [{"type": "Pods", "pods": metric}],
            "behavior": {"scaleDown": slowly},
        },
    }


def per_replica(scaling: Scaling) -> float:
    """Return the requests per second that one replica is to be given, its headroom kept free. Wall clock."""
    return scaling.capacity.rate_rps.value * (1 - scaling.headroom)


def _least(spec: ServiceSpec) -> int:
    """Return how many replicas there are at least: one or more (decision 107)."""
    if spec.autoscale.min_replicas < 1:
        raise InvalidInput(
            f"{spec.name} cannot go to zero by an autoscaler of the cluster",
            why="autoscale.min_replicas is 0, and engines that are not there count no request that could wake them",
            allowed="min_replicas of 1 or more, or no --autoscale: Fleetune's controller goes to zero and back",
        )
    return spec.autoscale.min_replicas


def _head(owner: ReplicaOwner, cluster: ClusterOptions) -> Manifest:
    labels = labels_of(owner)
    return {"name": labels[GROUP], "namespace": cluster.namespace, "labels": labels}


def _target(owner: ReplicaOwner, scaling: Scaling) -> Manifest:
    version, kind = scaling.target
    return {"apiVersion": version, "kind": kind, "name": group_name(owner)}


def _slowly(spec: ServiceSpec) -> Manifest:
    return {"stabilizationWindowSeconds": min(3600, math.ceil(spec.autoscale.scale_in_after_s)), **_ONE_POD}


def _trigger(name: str, query: str, threshold: float, url: str) -> Manifest:
    told = {"serverAddress": url, "query": query, "threshold": _number(threshold), "ignoreNullValues": "false"}
    return {"type": "prometheus", "name": name, "metricType": "AverageValue", "metadata": told}


def _number(value: float) -> str:
    return f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".")


def _quantity(value: float) -> str:
    """Return a number as the server itself would write it: `6500m` for 6.5, so that nobody sees a difference."""
    thousandths = max(1, round(value * 1000))
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
