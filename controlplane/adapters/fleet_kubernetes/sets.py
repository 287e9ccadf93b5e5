"""A replica larger than a node: a LeaderWorkerSet of one group, a pod on each of its nodes. Pure.

Each engine has one of its own: of several groups of one set the last is always the one that goes (decision 37).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubernetes import client

from controlplane.adapters.fleet_kubernetes.names import GROUP, labels_of
from controlplane.adapters.fleet_kubernetes.pods import leader_template, nodes_of, worker_template
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import InvalidInput

PREFIX, PLURAL, KIND = "apis/leaderworkerset.x-k8s.io/v1", "leaderworkersets", "LeaderWorkerSet"
TEMPLATE = "leaderWorkerTemplate"
"""The field of its description that nothing but a set has."""
_API_VERSION = "leaderworkerset.x-k8s.io/v1"
LEADER = "leaderworkerset.sigs.k8s.io/worker-index"
"""The label that numbers the pods of a group; its leader is 0."""


def leader_worker_set(
    engine: EngineSpec,
    cluster: ClusterOptions,
    *,
    name: str,
    replicas: int | None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the set of engines that run this. Raises InvalidInput when a cluster cannot run it.

    A pod that dies takes its whole group with it: the parts of an engine cannot go on without each other.
    """
    labels = {**labels_of(engine.owner, spot=engine.spot), GROUP: name}
    plain: Callable[[object], Any] = client.ApiClient().sanitize_for_serialization
    metadata: dict[str, Any] = {"name": name, "namespace": cluster.namespace, "labels": labels}
    return {
        "apiVersion": _API_VERSION,
        "kind": KIND,
        "metadata": metadata if annotations is None else {**metadata, "annotations": dict(annotations)},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "startupPolicy": "LeaderCreated",
            "rolloutStrategy": {"type": "RollingUpdate"},
            TEMPLATE: {
                "size": nodes_of(engine, cluster),
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": plain(leader_template(engine, cluster, labels)),
                "workerTemplate": plain(worker_template(engine, cluster, labels)),
            },
        },
    }


def same_set(present: Mapping[str, Any], *, replicas: int, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return a set as it is, but for its replicas and what is noted on it, at the version it was read at."""
    metadata = present["metadata"]
    kept = {name: metadata[name] for name in ("name", "namespace", "labels", "uid", "resourceVersion")}
    return {
        "apiVersion": _API_VERSION,
        "kind": KIND,
        "metadata": {**kept, "annotations": dict(annotations)},
        "spec": {**present["spec"], "replicas": replicas},
    }


def no_sets(what: str) -> InvalidInput:
    """Return what to say where the add-on is not installed."""
    return InvalidInput(
        what,
        why=f"the cluster has no LeaderWorkerSet ({_API_VERSION})",
        allowed="its custom resource definitions and controller, or replicas that fit on a node",
    )
