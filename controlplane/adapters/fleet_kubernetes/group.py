"""One Deployment of engines with what is known around it, and how its engines are shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from controlplane.adapters.fleet_kubernetes.door import Json
from controlplane.adapters.fleet_kubernetes.ledger import Ledger, read_ledger, read_spec
from controlplane.adapters.fleet_kubernetes.pods import PORT
from controlplane.adapters.fleet_kubernetes.sight import PodSight, sight_of
from controlplane.adapters.fleet_kubernetes.steps import waits_for
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.fleet import Engine, EngineSpec
from controlplane.domain.errors import InvalidInput, Unavailable


class Group(NamedTuple):
    """One Deployment with what is known around it."""

    deployment: Json
    spec: EngineSpec
    ledger: Ledger
    pods: Mapping[str, PodSight]

    @property
    def name(self) -> str:
        return str(self.deployment["metadata"]["name"])

    @property
    def gpus_held(self) -> int:
        return self.spec.gpus * sum(not entry.state.is_over for entry in self.ledger.values())

    @property
    def refused_pods(self) -> str:
        """Why the cluster makes no pod, "" when it does: a quota, a missing account."""
        conditions = self.deployment.get("status", {}).get("conditions", [])
        return next((c.get("message", "") for c in conditions if c["type"] == "ReplicaFailure"), "")


def group_of(deployment: Json, pods: Mapping[str, PodSight]) -> Group:
    """Read a Deployment. Raises Unavailable when somebody damaged what is noted on it."""
    name = EngineId(deployment["metadata"]["name"])
    return Group(deployment, read_spec(deployment).evolve(engine_id=name), read_ledger(deployment), pods)


def engine_of(group: Group, engine_id: EngineId) -> Engine:
    """Return an engine as its ledger and its pod say it is."""
    entry = group.ledger[engine_id]
    sight = group.pods.get(entry.pod or "")
    address = None if sight is None else sight.address
    return Engine(
        spec=group.spec.evolve(engine_id=engine_id),
        state=entry.state,
        url=None if address is None else url_of(address),
        started_at=entry.started_at,
        ready_at=entry.ready_at,
        ended_at=entry.ended_at,
        answers=entry.ready_at is None or (sight is not None and sight.is_ready and entry.failure is None),
        failure=entry.failure if entry.ended_at is not None else None,
        failure_detail=entry.detail if entry.ended_at is not None else None,
        pod=entry.pod,
        node=None if sight is None else sight.node,
        waits_for=waits_for(entry, sight, group.refused_pods),
    )


def require_runnable(spec: EngineSpec, cluster: ClusterOptions, namespace: str) -> None:
    """Raise InvalidInput for an engine that no cluster could run as it is described."""
    if not re.fullmatch(r"[a-z0-9-]+", spec.engine_id):
        raise InvalidInput(f"engine id {spec.engine_id!r}", allowed="a-z, 0-9 and -")
    if spec.config.gpus_per_replica > spec.gpus:
        why = f"its flags ask for {spec.config.gpus_per_replica}"
        raise InvalidInput(f"engine {spec.engine_id} is given {spec.gpus} GPUs", why=why)
    if cluster.namespace != namespace:
        raise InvalidInput(
            f"{spec.owner} is described for namespace {cluster.namespace}", allowed=f"namespace {namespace}"
        )
    if spec.api_key is not None:
        raise InvalidInput(
            f"engine {spec.engine_id} asks for a key",
            why="on a cluster keys lie in Secrets, which the control plane does not read",
            allowed="no key: a NetworkPolicy keeps strangers from engines",
        )


def require_lasting(deployment: Json | None) -> None:
    """Raise Unavailable while somebody's deletion of a Deployment is under way: what is written to it goes too."""
    if deployment is not None and deployment["metadata"].get("deletionTimestamp"):
        raise Unavailable(
            f"no engine is started in deployment {deployment['metadata']['name']}", why="somebody is deleting it"
        )


def require_same(spec: EngineSpec, group: Group) -> None:
    """Raise Unavailable when an owner's present engines run something else: they are to go first."""
    if spec.evolve(engine_id=group.spec.engine_id, env={}) != group.spec.evolve(env={}):
        raise Unavailable(
            f"engine {spec.engine_id} is not started", why=f"deployment {group.name} runs other flags of {spec.owner}"
        )


def pods_of(deployment: Json, pods: Mapping[str, Sequence[Json]]) -> Mapping[str, PodSight]:
    """Return a Deployment's pods by name, the oldest first, out of pods by the label that names their Deployment.

    Those from before it belong to one of that name that somebody deleted: they still run for a while.
    """
    since, named = deployment["metadata"]["creationTimestamp"], pods.get(deployment["metadata"]["name"], ())
    mine = [pod for pod in named if pod["metadata"]["creationTimestamp"] >= since]
    oldest_first = sorted(mine, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    return {pod["metadata"]["name"]: sight_of(pod) for pod in oldest_first}


def url_of(address: str) -> str:
    """Return where the engine in a pod with this address answers."""
    return f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"
