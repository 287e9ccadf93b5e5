"""What is kept in memory of objects that are watched: what is read of them, no more. Pure.

Each part of an object that is kept is looked at by every full collection of garbage, in the middle of a pass: over
2,000 whole pods that takes as long as several passes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from controlplane.adapters.fleet_kubernetes.door import Json

_OF_META = (
    *("name", "namespace", "uid", "resourceVersion", "labels", "annotations"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
)
_OF_STATUS = ("phase", "reason", "message", "podIP", "conditions", "containerStatuses")
_OF_CONDITION = ("type", "status", "reason", "message")
_OF_CONTAINER = ("name", "restartCount", "state", "lastState")


def whole(value: Json) -> Json:
    """Return an object without the notes on who set which of its fields, which may be the most of it."""
    metadata = {name: each for name, each in value["metadata"].items() if name != "managedFields"}
    return {**value, "metadata": metadata}


def of_pod(value: Json) -> Json:
    """Return of a pod what `sight_of` reads."""
    status = _some(value.get("status", {}), _OF_STATUS)
    parts = {"conditions": _OF_CONDITION, "containerStatuses": _OF_CONTAINER}
    lists = {name: [_some(each, names) for each in status[name]] for name, names in parts.items() if status.get(name)}
    return {
        "metadata": _some(value["metadata"], _OF_META),
        "spec": _some(value["spec"], ("nodeName",)),
        "status": {**status, **lists},
    }


def of_node(value: Json) -> Json:
    """Return a node without the list of all images on it."""
    kept = whole(value)
    status = {name: each for name, each in value.get("status", {}).items() if name != "images"}
    return {**kept, "status": status}


def _some(value: Mapping[str, object], names: Collection[str]) -> Json:
    return {name: value[name] for name in names if name in value}
