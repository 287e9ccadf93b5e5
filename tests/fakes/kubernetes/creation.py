"""What a server itself sets of an object: a generation, addresses of a Service, who counts a Job's pods, a pod's phase.

And what it does not let anybody change afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes.kubernetes.defaults_pods import qos_class
from tests.fakes.kubernetes.schemas import Flaw, Object, Resource

_WITHOUT_GENERATION = frozenset(
    {
        *("Service", "Node", "Namespace", "Secret", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim"),
        *("ResourceQuota", "HorizontalPodAutoscaler", "Lease"),
        *("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    }
)
_FIXED = "field is immutable"
_MAY_CHANGE = ("activeDeadlineSeconds", "tolerations", "nodeName")
"""Of a pod's description, beside its images; `nodeName` is the scheduler's, which binds here by writing it."""


def counts_generations(resource: Resource) -> bool:
    """Say whether objects of a kind say how often they were changed."""
    return resource.kind not in _WITHOUT_GENERATION


def made(resource: Resource, value: Object) -> Object:
    """Return a new object with what its server sets. It has its name and uid."""
    metadata, spec = value["metadata"], value.get("spec")
    if counts_generations(resource):
        metadata["generation"] = 1
    match resource.kind:
        case "Pod":
            value["status"] = {"phase": "Pending", "qosClass": qos_class(value["spec"])}
        case "Service" if isinstance(spec, dict):
            _addressed(spec, metadata["uid"])
        case "Job" if isinstance(spec, dict) and not spec.get("manualSelector"):
            _selecting(spec, metadata)
    return value


def _addressed(spec: Object, uid: str) -> None:
    if spec.get("type") == "ExternalName":
        return
    own = f"10.96.{int(uid[:2], 16)}.{1 + int(uid[2:4], 16) % 254}"
    address = spec.setdefault("clusterIP", own)
    spec.setdefault("clusterIPs", [address])
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _selecting(spec: Object, metadata: Object) -> None:
    uid, name = metadata["uid"], metadata["name"]
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels |= {"batch.kubernetes.io/controller-uid": uid, "controller-uid": uid}
    labels |= {"batch.kubernetes.io/job-name": name, "job-name": name}
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def changed_what_is_fixed(resource: Resource, live: Object | None, value: Object) -> Iterator[Flaw]:
    """Yield the fields of an object that nobody may change, and that were."""
    if live is None:
        return
    before, after = live.get("spec") or {}, value.get("spec") or {}
    match resource.kind:
        case "Deployment" | "ReplicaSet":
            yield from _fixed(before, after, "selector")
        case "Job":
            yield from _fixed(before, after, "selector", "template", "completions", "completionMode")
        case "Service" if before.get("clusterIP") and after.get("type") != "ExternalName":
            if after.get("clusterIP") != before["clusterIP"]:
                yield Flaw("spec.clusterIPs[0]", f"Invalid value: {after.get('clusterIP')!r}: may not change once set")
        case "Pod" if _fixed_part(before) != _fixed_part(after):
            why = "Forbidden: pod updates may not change fields other than its images, tolerations (only additions)"
            yield Flaw("spec", f"{why}, `spec.activeDeadlineSeconds`")


def _fixed(before: Mapping[str, Any], after: Mapping[str, Any], *names: str) -> Iterator[Flaw]:
    for name in names:
        if before.get(name) != after.get(name):
            yield Flaw(f"spec.{name}", f"Invalid value: {_FIXED}")


def _fixed_part(spec: Mapping[str, Any]) -> Object:
    kept = {name: each for name, each in spec.items() if name not in _MAY_CHANGE}
    for part in ("containers", "initContainers"):
        if part in kept:
            kept[part] = [{n: v for n, v in each.items() if n != "image"} for each in kept[part]]
    return kept
