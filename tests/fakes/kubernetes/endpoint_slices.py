"""What a controller manager's endpoint slice controller does: for each Service with a selector, its pods' addresses.

A Service has a slice from the beginning, without endpoints until a pod has an address; a hundred endpoints fill one.
Names of slices are the server's choice. Not modelled: zones and hints, host names, IPv6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.selection import selected
from tests.fakes.kubernetes.writes import Writer

_SERVICE, _POD = resource_of("v1", "Service"), resource_of("v1", "Pod")
_SLICE = resource_of("discovery.k8s.io/v1", "EndpointSlice")
_BY = Writer(manager="kube-controller-manager")
_MOST = 100
_OF, _MANAGED = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
_CONTROLLER = "endpointslice-controller.k8s.io"


class EndpointSlices:
    """Looks at every Service in `run_pass`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def run_pass(self) -> None:
        present: dict[str, list[Object]] = {}
        for each in self._objects.list(_SLICE, shared=True):
            labels = each["metadata"].get("labels", {})
            if labels.get(_MANAGED) == _CONTROLLER:  # those of others are left alone
                present.setdefault(f"{each['metadata']['namespace']}/{labels.get(_OF)}", []).append(each)
        pods = self._objects.list(_POD, shared=True)
        for service in self._objects.list(_SERVICE, shared=True):
            if service["spec"].get("selector") and not service["metadata"].get("deletionTimestamp"):
                metadata = service["metadata"]
                self._service(service, present.get(f"{metadata['namespace']}/{metadata['name']}", []), pods)

    def _service(self, service: Object, present: Sequence[Object], pods: Sequence[Object]) -> None:
        namespace, wanted = service["metadata"]["namespace"], list(_slices_of(service, pods))
        for slice_, live in zip(wanted, present, strict=False):
            if _differs(live, slice_):
                said = {name: slice_[name] for name in ("endpoints", "ports")}
                name = live["metadata"]["name"]
                _tried(self._objects.change, _SLICE, namespace, name, lambda v, said=said: {**v, **said}, _BY)
        for slice_ in wanted[len(present) :]:
            _tried(self._objects.create, _SLICE, namespace, slice_, _BY)
        for live in present[len(wanted) :]:
            _tried(self._objects.delete, _SLICE, namespace, live["metadata"]["name"])


def _differs(live: Object, wanted: Object) -> bool:
    return any((live.get(name) or []) != wanted[name] for name in ("endpoints", "ports"))


def _slices_of(service: Object, pods: Sequence[Object]) -> Iterator[Object]:
    metadata, selector = service["metadata"], {"matchLabels": service["spec"]["selector"]}
    mine = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == metadata["namespace"]
        and selected(pod["metadata"].get("labels", {}), selector)
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") not in ("Failed", "Succeeded")
    ]
    endpoints = [_endpoint(pod) for pod in sorted(mine, key=lambda pod: str(pod["metadata"]["name"]))]
    ports = _ports_of(service, mine)
    for first in range(0, max(1, len(endpoints)), _MOST):
        yield _slice(metadata, endpoints[first : first + _MOST], ports)


def _slice(of: Object, endpoints: Sequence[Object], ports: Sequence[Object]) -> Object:
    owner = {"apiVersion": "v1", "kind": "Service", "name": of["name"], "uid": of["uid"]}
    return {
        "metadata": {
            "generateName": f"{of['name']}-",
            "labels": {**of.get("labels", {}), _OF: of["name"], _MANAGED: _CONTROLLER},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        },
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def _ports_of(service: Object, pods: Sequence[Object]) -> Sequence[Object]:
    """Return where pods listen; a port by name is looked up in them, and is not known before there is one."""
    found = []
    for port in service["spec"].get("ports", []):
        number = port["targetPort"] if isinstance(port["targetPort"], int) else _named(pods, port["targetPort"])
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port["protocol"]})
    return found


def _named(pods: Sequence[Object], name: str) -> int | None:
    containers = (container for pod in pods for container in pod["spec"]["containers"])
    ports = (port for container in containers for port in container.get("ports", []))
    return next((int(port["containerPort"]) for port in ports if port.get("name") == name), None)


def _endpoint(pod: Object) -> Object:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    serving, going = conditions.get("Ready") == "True", bool(pod["metadata"].get("deletionTimestamp"))
    names = {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": serving and not going, "serving": serving, "terminating": going},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {"kind": "Pod", **names},
    }


def _tried(act: Callable[..., object], *words: object) -> None:
    try:
        act(*words)
    except ApiError:  # looked at again in the next pass
        return
