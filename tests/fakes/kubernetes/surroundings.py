"""What a controller manager puts beside what one made: accounts and certificates of namespaces, taints of nodes."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer

_NAMESPACE, _NODE = resource_of("v1", "Namespace"), resource_of("v1", "Node")
_ACCOUNT, _CONFIG_MAP = resource_of("v1", "ServiceAccount"), resource_of("v1", "ConfigMap")
_BY = Writer(manager="kube-controller-manager")
NOT_READY = "node.kubernetes.io/not-ready"


class Surroundings:
    """Looks at every namespace and node in `run_pass`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def run_pass(self) -> None:
        for namespace in self._objects.list(_NAMESPACE, shared=True):
            act = self._empty if namespace["metadata"].get("deletionTimestamp") else self._furnish
            act(namespace["metadata"]["name"])
        for node in self._objects.list(_NODE, shared=True):
            if _is_ready(node) and any(each["key"] == NOT_READY for each in _taints(node)):
                name = node["metadata"]["name"]
                _tried(lambda n=name: self._objects.change(_NODE, "", n, _welcome, _BY))  # type: ignore[misc]

    def _empty(self, namespace: str) -> None:
        """Delete what is in a namespace that is being deleted; once nothing is, it may go."""
        with self._objects.changed:
            inside = [value for (_, where, _), value in self._objects.everything() if where == namespace]
        for value in inside:
            if not value["metadata"].get("deletionTimestamp"):
                resource = resource_of(value["apiVersion"], value["kind"])
                name = value["metadata"]["name"]
                _tried(lambda r=resource, n=name: self._objects.delete(r, namespace, n))  # type: ignore[misc]
        if not inside:
            _tried(lambda: self._objects.change(_NAMESPACE, "", namespace, _finalized, _BY))

    def _furnish(self, namespace: str) -> None:
        for resource, name, more in (
            (_ACCOUNT, "default", {}),
            (_CONFIG_MAP, "kube-root-ca.crt", {"data": {"ca.crt": ""}}),
        ):
            if not any(
                each["metadata"]["name"] == name for each in self._objects.list(resource, namespace, shared=True)
            ):
                value: Object = {"metadata": {"name": name}, **more}
                _tried(lambda r=resource, v=value: self._objects.create(r, namespace, v, _BY))  # type: ignore[misc]


def unproven(node: Object) -> Object:
    """Return a node as it is admitted: nothing is placed on it until it was seen to be ready."""
    taint = {"key": NOT_READY, "effect": "NoSchedule"}
    return {**node, "spec": {**node.get("spec", {}), "taints": [*_taints(node), taint]}}


def _finalized(namespace: Object) -> Object:
    return {**namespace, "spec": {**namespace["spec"], "finalizers": []}}


def _welcome(node: Object) -> Object:
    left = [each for each in _taints(node) if each["key"] != NOT_READY]
    return {**node, "spec": {**node["spec"], "taints": left}}


def _taints(node: Object) -> list[Object]:
    return list(node.get("spec", {}).get("taints") or [])


def _is_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _tried(act: Callable[[], object]) -> None:
    try:
        act()
    except ApiError:  # looked at again in the next pass
        return
