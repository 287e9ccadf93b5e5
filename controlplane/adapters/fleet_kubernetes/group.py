"""One Deployment of engines with what is known around it, and how its engines are shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from controlplane.adapters.fleet_kubernetes.door import Json
from controlplane.adapters.fleet_kubernetes.ledger import Entry, Ledger, is_ours, read_ledger, read_spec
from controlplane.adapters.fleet_kubernetes.pods import PORT
from controlplane.adapters.fleet_kubernetes.sets import LEADER, TEMPLATE
from controlplane.adapters.fleet_kubernetes.sight import PodSight, sight_of
from controlplane.adapters.fleet_kubernetes.steps import pod_of, waits_for
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.fleet import Engine, EngineSpec
from controlplane.domain.errors import InvalidInput, Unavailable


class Group(NamedTuple):
    """One Deployment, or one set of a replica that spans nodes, with what is known around it."""

    workload: Json
    spec: EngineSpec
    ledger: Ledger
    pods: Mapping[str, PodSight]  # those that can be an engine's
    workers: Sequence[PodSight] = ()  # the other parts of an engine that spans nodes

    @property
    def name(self) -> str:
        return str(self.workload["metadata"]["name"])

    @property
    def is_set(self) -> bool:
        return TEMPLATE in self.workload["spec"]

    @property
    def grace_s(self) -> int:
        """How long a pod that serves may take to end."""
        spec = self.workload["spec"]
        template = spec[TEMPLATE]["leaderTemplate"] if self.is_set else spec["template"]
        return int(template["spec"]["terminationGracePeriodSeconds"])

    def pod_of(self, entry: Entry) -> PodSight | None:
        return pod_of(entry, self.pods)

    def as_written(self, workload: Json) -> Group:
        """Return the same pods under what was just written."""
        return group_of(workload)._replace(pods=self.pods, workers=self.workers)

    @property
    def gpus_held(self) -> int:
        return self.spec.gpus * sum(not entry.state.is_over for entry in self.ledger.values())

    @property
    def refused_pods(self) -> str:
        """Why the cluster makes no pod, "" when it does: a quota, a missing account."""
        conditions = self.workload.get("status", {}).get("conditions", [])
        return next((c.get("message", "") for c in conditions if c["type"] == "ReplicaFailure"), "")


def group_of(workload: Json, pods: Sequence[Json] = ()) -> Group:
    """Read a Deployment or a set with its pods. Raises Unavailable when somebody damaged what is noted on it."""
    name = EngineId(workload["metadata"]["name"])
    sights = _sights(workload, pods)
    leading = {pod["metadata"]["name"] for pod in pods if pod["metadata"]["labels"].get(LEADER, "0") == "0"}
    return Group(
        workload=workload,
        spec=read_spec(workload).evolve(engine_id=name),
        ledger=read_ledger(workload),
        pods={each.name: each for each in sights if each.name in leading},
        workers=tuple(each for each in sights if each.name not in leading),
    )


def engine_of(group: Group, engine_id: EngineId) -> Engine:
    """Return an engine as its ledger and its pod say it is."""
    entry = group.ledger[engine_id]
    sight = group.pod_of(entry)
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
        waits_for=waits_for(entry, sight, group.workers, group.refused_pods),
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


def require_startable(workload: Json | None) -> None:
    """Raise Unavailable for a workload that another tool applies: its pods are not ours to count. And while somebody's
    deletion of it is under way: what is written to it goes too.
    """
    if workload is None:
        return
    what = f"no engine is started in {workload['metadata']['name']}"
    if not is_ours(workload):
        raise Unavailable(what, why="another tool applies it", allowed="one of the two: that tool's or Fleetune's")
    if workload["metadata"].get("deletionTimestamp"):
        raise Unavailable(what, why="somebody is deleting it")


def require_same(spec: EngineSpec, group: Group) -> None:
    """Raise Unavailable when an owner's present engines run something else: they are to go first.

    How long starts may take is said by the template that is there, whatever was measured since.
    """
    settled: Mapping[str, Any] = {"env": {}, "start_budget_s": None}
    if spec.evolve(engine_id=group.spec.engine_id, **settled) != group.spec.evolve(**settled):
        raise Unavailable(
            f"engine {spec.engine_id} is not started", why=f"deployment {group.name} runs other flags of {spec.owner}"
        )


def _sights(workload: Json, pods: Sequence[Json]) -> Sequence[PodSight]:
    """Return a workload's pods, the oldest first, out of those whose label names it.

    Pods from before it belong to one of that name that somebody deleted: they still run for a while.
    """
    since = workload["metadata"].get("creationTimestamp", "")
    mine = [pod for pod in pods if pod["metadata"]["creationTimestamp"] >= since]
    oldest_first = sorted(mine, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    return [sight_of(pod) for pod in oldest_first]


def url_of(address: str) -> str:
    """Return where the engine in a pod with this address answers."""
    return f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"
