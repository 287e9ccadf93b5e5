"""Finds nodes for pods: selectors, affinity, taints, extended resources; says what is short when none fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer

_POD = resource_of("v1", "Pod")
_NODE = resource_of("v1", "Node")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_NO_MATCH = "node(s) didn't match Pod's node affinity/selector"


_NO_NODES = "no nodes available to schedule pods"


class Scheduler:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def run_pass(self) -> None:
        pods = self._objects.list(_POD, shared=True)
        waiting = [p for p in pods if not p["spec"].get("nodeName") and not p["metadata"].get("deletionTimestamp")]
        if not waiting:
            return
        nodes = self._objects.list(_NODE, shared=True)
        used = _used(pods)
        for pod in waiting:
            self._place(pod, nodes, used)

    def _place(self, pod: Object, nodes: Sequence[Object], used: dict[str, Counter[str]]) -> None:
        said = [(node, _why_not(pod, node, used.get(node["metadata"]["name"], Counter()))) for node in nodes]
        fitting = [node for node, why in said if why is None]
        if not fitting:
            self._tell(pod, nodes, Counter(why for _, why in said if why is not None))
            return
        chosen = min(fitting, key=lambda node: used.get(node["metadata"]["name"], Counter()).total())
        name = chosen["metadata"]["name"]
        used.setdefault(name, Counter()).update(_asked(pod))
        self._write(pod, "", lambda value: {**value, "spec": {**value["spec"], "nodeName": name}})
        self._condition(pod, {"type": "PodScheduled", "status": "True"})

    def _tell(self, pod: Object, nodes: Sequence[Object], reasons: Counter[str]) -> None:
        listed = ", ".join(f"{count} {why}" for why, count in sorted(reasons.items()))
        message = f"0/{len(nodes)} nodes are available: {listed}. {_preemption(len(nodes))}" if nodes else _NO_NODES
        self._condition(pod, {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message})

    def _condition(self, pod: Object, condition: Object) -> None:
        def changed(value: Object) -> Object:
            status = value.get("status", {})
            others = [each for each in status.get("conditions", []) if each["type"] != condition["type"]]
            return {**value, "status": {"phase": "Pending", **status, "conditions": [*others, condition]}}

        self._write(pod, "status", changed)

    def _write(self, pod: Object, subresource: str, change) -> None:  # type: ignore[no-untyped-def]
        metadata, by = pod["metadata"], Writer(manager="kube-scheduler", subresource=subresource)
        try:
            self._objects.change(_POD, metadata["namespace"], metadata["name"], change, by)
        except ApiError:  # gone meanwhile
            return


def _preemption(nodes: int) -> str:
    """Nobody is sent away here: what a scheduler says then."""
    why = "Preemption is not helpful for scheduling"
    return f"preemption: 0/{nodes} nodes are available: {nodes} {why}."


def _why_not(pod: Object, node: Object, used: Counter[str]) -> str | None:
    labels, spec = node["metadata"].get("labels", {}), node.get("spec", {})
    if spec.get("unschedulable"):
        return "node(s) were unschedulable"
    if any(labels.get(name) != value for name, value in pod["spec"].get("nodeSelector", {}).items()):
        return _NO_MATCH
    if not _has_affinity(pod, labels):
        return _NO_MATCH
    for taint in spec.get("taints", []):
        if not _tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    allocatable = node.get("status", {}).get("allocatable", {})
    for name, amount in _asked(pod).items():
        if used[name] + amount > int(allocatable.get(name, 0)):
            return f"Insufficient {name}"
    return None


def _has_affinity(pod: Object, labels: Object) -> bool:
    required = pod["spec"].get("affinity", {}).get("nodeAffinity", {}).get(_REQUIRED, {})
    terms = required.get("nodeSelectorTerms", [])
    return not terms or any(all(_matches(e, labels) for e in t.get("matchExpressions", [])) for t in terms)


def _matches(expression: Object, labels: Object) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(expression["operator"])


def _tolerates(pod: Object, taint: Object) -> bool:
    return any(
        each.get("key") in (None, taint["key"]) and each.get("effect") in (None, taint["effect"])
        for each in pod["spec"].get("tolerations", [])
    )


def _asked(pod: Object) -> Counter[str]:
    found: Counter[str] = Counter()
    for container in pod["spec"]["containers"]:
        limits = container.get("resources", {}).get("limits", {})
        found.update({name: int(amount) for name, amount in limits.items() if "/" in name})
    return found


def _used(pods: Sequence[Object]) -> dict[str, Counter[str]]:
    """What pods hold, those that are being deleted among them: their processes may still be there."""
    used: dict[str, Counter[str]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded"):
            used.setdefault(node, Counter()).update(_asked(pod))
    return used
