"""What the LeaderWorkerSet controller does: groups of pods, recreated whole when one of them dies.

Pods have the names, labels and variables of LeaderWorkerSet v1: `<set>-0` leads, `<set>-0-1` is its first worker and
goes with it, as the leader owns it. Not modelled: the StatefulSets between, rolling updates, subgroups, exclusive
topology, the Service of a set.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.kubernetes.admission import admitted_pod
from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer

_SET = resource_of("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
_POD = resource_of("v1", "Pod")
_SPEC = Writer(manager="lws")
_STATUS = Writer(manager="lws", subresource="status")
_LABELS = "leaderworkerset.sigs.k8s.io"


class SetController:
    """Looks at every set in `run_pass`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def run_pass(self) -> None:
        pods = {pod["metadata"]["name"]: pod for pod in self._objects.list(_POD, shared=True)}
        for each in self._objects.list(_SET, shared=True):
            if not each["metadata"].get("deletionTimestamp"):
                self._make_true(each, pods)

    def _make_true(self, found: Object, pods: Mapping[str, Object]) -> None:
        name, namespace, spec = found["metadata"]["name"], found["metadata"]["namespace"], found["spec"]
        for number in range(spec["replicas"]):
            self._group(found, number, pods)
        surplus = [pod for pod in pods.values() if _is_leader(pod, name) and _index(pod) >= spec["replicas"]]
        for pod in surplus:
            self._delete(pod)
        leaders = [pod for pod in pods.values() if _is_leader(pod, name)]
        ready = sum(all(map(_is_ready, [leader, *_workers(leader, pods)])) for leader in leaders)
        status = {"replicas": len(leaders), "readyReplicas": ready, "updatedReplicas": len(leaders)}
        status["observedGeneration"] = found["metadata"]["generation"]
        if found.get("status") != status:
            self._tried(_SET, namespace, name, lambda value: {**value, "status": status})

    def _group(self, found: Object, number: int, pods: Mapping[str, Object]) -> None:
        leader = pods.get(f"{found['metadata']['name']}-{number}")
        if leader is None:
            self._create(found, number, 0, _owner(found))
            return
        if leader["metadata"].get("deletionTimestamp"):
            return
        workers = _workers(leader, pods)
        if any(_has_died(pod) for pod in (leader, *workers)):
            self._delete(leader)  # its workers go with it, and all are made anew
            return
        for index in range(1, found["spec"]["leaderWorkerTemplate"]["size"]):
            if f"{leader['metadata']['name']}-{index}" not in pods:
                self._create(found, number, index, _owner(leader))

    def _create(self, found: Object, number: int, index: int, owner: Object) -> None:
        metadata, template = found["metadata"], found["spec"]["leaderWorkerTemplate"]
        of = template["workerTemplate"] if index or "leaderTemplate" not in template else template["leaderTemplate"]
        labels = {"name": metadata["name"], "group-index": str(number), "worker-index": str(index)}
        leader = f"{metadata['name']}-{number}"
        value: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{leader}-{index}" if index else leader,
                "labels": {**of["metadata"]["labels"], **{f"{_LABELS}/{key}": each for key, each in labels.items()}},
                "ownerReferences": [owner],
            },
            "spec": _with_variables(of["spec"], f"{leader}.{metadata['name']}", template["size"], index),
        }
        try:
            with self._objects.changed:
                admitted = admitted_pod(self._objects, metadata["namespace"], value)
                self._objects.create(_POD, metadata["namespace"], admitted, _SPEC)
        except ApiError:  # looked at again in the next pass
            return

    def _delete(self, pod: Object) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            return
        try:
            self._objects.delete(_POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
        except ApiError:
            return

    def _tried(self, resource: Any, namespace: str, name: str, change: Any) -> None:
        try:
            self._objects.change(resource, namespace, name, change, _STATUS)
        except ApiError:
            return


def _with_variables(spec: Object, leader: str, size: int, index: int) -> Object:
    found = copy.deepcopy(spec)
    values = {"LWS_LEADER_ADDRESS": leader, "LWS_GROUP_SIZE": str(size), "LWS_WORKER_INDEX": str(index)}
    for container in found["containers"]:
        container["env"] = [{"name": k, "value": v} for k, v in values.items()] + container.get("env", [])
    return found


def _is_leader(pod: Object, name: str) -> bool:
    labels = pod["metadata"].get("labels", {})
    return (labels.get(f"{_LABELS}/name"), labels.get(f"{_LABELS}/worker-index")) == (name, "0")


def _index(pod: Object) -> int:
    return int(pod["metadata"]["labels"][f"{_LABELS}/group-index"])


def _workers(leader: Object, pods: Mapping[str, Object]) -> Sequence[Object]:
    uid = leader["metadata"]["uid"]
    return [p for p in pods.values() if any(o["uid"] == uid for o in p["metadata"].get("ownerReferences", []))]


def _has_died(pod: Object) -> bool:
    status = pod.get("status", {})
    restarts = sum(each.get("restartCount", 0) for each in status.get("containerStatuses", []))
    return restarts > 0 or status.get("phase") == "Failed" or "deletionTimestamp" in pod["metadata"]


def _is_ready(pod: Object) -> bool:
    return any((c["type"], c["status"]) == ("Ready", "True") for c in pod.get("status", {}).get("conditions", []))


def _owner(value: Object) -> Object:
    metadata, shown = value["metadata"], {"apiVersion": value["apiVersion"], "kind": value["kind"]}
    return {**shown, "name": metadata["name"], "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}
