"""Cleaning up: what an object owned goes with it, in the background or first; pods of a node that is no more go too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import FOREGROUND, Writer

_POD = resource_of("v1", "Pod")
_NODE = resource_of("v1", "Node")
_QUARANTINE_S = 0.5  # 40 s in a cluster: its node may come back
_STATUS = Writer(manager="kube-controller-manager", subresource="status")


class GarbageCollector:
    """Looks at everything in `run_pass`. While it `is_asleep` what was owned outlives its owner for a while."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.is_asleep = False
        self._missed: dict[str, float] = {}  # nodes that pods are on and that are not there, since when

    @property
    def is_due(self) -> bool:
        """Whether pods of a node that is gone are to be looked at by now."""
        return any(time.monotonic() - since_s >= _QUARANTINE_S for since_s in self._missed.values())

    def run_pass(self) -> None:
        if self.is_asleep:
            return
        with self._objects.changed:
            values = [value for _, value in self._objects.everything()]
            uids = {value["metadata"]["uid"] for value in values}
        for value in values:
            if _is_orphan(value, uids):
                self._delete(value, policy="Foreground" if _is_owned_by_going(value, values) else None)
            elif FOREGROUND in value["metadata"].get("finalizers", []):
                self._go_on(value, _dependents(value, values))
        self._pods_without_node(values)

    def _go_on(self, owner: Object, dependents: Sequence[Object]) -> None:
        """Delete what an object owns before the object itself."""
        for each in dependents:
            if not each["metadata"].get("deletionTimestamp"):
                self._delete(each, policy="Foreground")
        if not dependents:
            self._change(owner, _released)

    def _pods_without_node(self, values: Sequence[Object]) -> None:
        nodes = {value["metadata"]["name"] for value in values if value["kind"] == "Node"}
        placed = [value for value in values if value["kind"] == "Pod" and value["spec"].get("nodeName")]
        lost = {pod["spec"]["nodeName"] for pod in placed} - nodes if nodes else set()
        now_s = time.monotonic()
        self._missed = {name: self._missed.get(name, now_s) for name in lost}
        for pod in placed:
            if now_s - self._missed.get(pod["spec"]["nodeName"], now_s) >= _QUARANTINE_S:
                self._change(pod, _collected, _STATUS)
                self._delete(pod, grace_s=0)

    def _delete(self, value: Object, *, policy: str | None = None, grace_s: int | None = None) -> None:
        resource, metadata = resource_of(value["apiVersion"], value["kind"]), value["metadata"]
        where = metadata.get("namespace", "")
        _tried(lambda: self._objects.delete(resource, where, metadata["name"], grace_s=grace_s, policy=policy))

    def _change(self, value: Object, change: Callable[[Object], Object], by: Writer = Writer()) -> None:  # noqa: B008
        resource, metadata = resource_of(value["apiVersion"], value["kind"]), value["metadata"]
        _tried(lambda: self._objects.change(resource, metadata.get("namespace", ""), metadata["name"], change, by))


def _tried(act: Callable[[], object]) -> None:
    """What was changed or deleted meanwhile is looked at again in the next pass."""
    try:
        act()
    except ApiError:
        return


def _is_orphan(value: Object, uids: set[str]) -> bool:
    owners = value["metadata"].get("ownerReferences")
    is_going = value["metadata"].get("deletionTimestamp")
    return bool(owners) and all(owner["uid"] not in uids for owner in owners) and not is_going


def _is_owned_by_going(value: Object, values: Sequence[Object]) -> bool:
    return any(FOREGROUND in each["metadata"].get("finalizers", []) for each in values if _owns(each, value))


def _dependents(owner: Object, values: Sequence[Object]) -> Sequence[Object]:
    return [each for each in values if _owns(owner, each)]


def _owns(owner: Object, value: Object) -> bool:
    return any(each["uid"] == owner["metadata"]["uid"] for each in value["metadata"].get("ownerReferences", []))


def _released(value: Object) -> Object:
    left = [each for each in value["metadata"].get("finalizers", []) if each != FOREGROUND]
    return {**value, "metadata": {**value["metadata"], "finalizers": left}}


def _collected(pod: Object) -> Object:
    said = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": "node is gone"}
    status = pod.get("status", {})
    return {**pod, "status": {**status, "phase": "Failed", "conditions": [*status.get("conditions", []), said]}}
