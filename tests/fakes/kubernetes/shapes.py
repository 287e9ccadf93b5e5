"""Shapes in which a server shows objects beside the whole: in lists, as bookmarks, as their scale."""

from __future__ import annotations

from tests.fakes.kubernetes.schemas import Object, Resource


def shown(resource: Resource, value: Object) -> Object:
    """Return an object as it is told: a slice of endpoints that has none says `null`."""
    if resource.kind != "EndpointSlice":
        return value
    return {**value, **{name: value.get(name) or None for name in ("endpoints", "ports")}}


def untyped(value: Object) -> Object:
    """Return an object as it stands in a list of its kind, which says the kind once for all."""
    return {name: each for name, each in value.items() if name not in ("apiVersion", "kind")}


def bookmark(resource: Resource, version: int, *, ends_list: bool = False) -> Object:
    shown = {"kind": resource.kind, "apiVersion": resource.api_version}
    noted = {"annotations": {"k8s.io/initial-events-end": "true"}} if ends_list else {}
    return {"type": "BOOKMARK", "object": {**shown, "metadata": {"resourceVersion": str(version), **noted}}}


def scale_of(value: Object) -> Object:
    labels = value["spec"].get("selector", {}).get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            k: v for k, v in value["metadata"].items() if k in ("name", "namespace", "uid", "resourceVersion")
        },
        "spec": {"replicas": value["spec"].get("replicas", 0)},
        "status": {
            "replicas": value.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{k}={v}" for k, v in labels.items()),
        },
    }
