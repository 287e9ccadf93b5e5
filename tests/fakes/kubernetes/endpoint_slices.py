"""What a controller manager's endpoint slice controller does: for each Service with a selector, its pods' addresses.

One slice for each Service, however many pods it has. Not modelled: zones and hints, host names, ports by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.selection import selected
from tests.fakes.kubernetes.writes import Writer

_SERVICE, _POD = resource_of("v1", "Service"), resource_of("v1", "Pod")
_SLICE = resource_of("discovery.k8s.io/v1", "EndpointSlice")
_BY = Writer(manager="kube-controller-manager")


class EndpointSlices:
    """Looks at every Service in `run_pass`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def run_pass(self) -> None:
        slices = {_key(each): each for each in self._objects.list(_SLICE, shared=True)}
        pods = self._objects.list(_POD, shared=True)
        for service in self._objects.list(_SERVICE, shared=True):
            if service["spec"].get("selector") and not service["metadata"].get("deletionTimestamp"):
                self._service(service, slices.get(_key(service)), pods)

    def _service(self, service: Object, present: Object | None, pods: Sequence[Object]) -> None:
        wanted, namespace = _slice_of(service, pods), service["metadata"]["namespace"]
        try:
            if present is None:
                self._objects.create(_SLICE, namespace, wanted, _BY)
            elif present["endpoints"] != wanted["endpoints"]:
                name = wanted["metadata"]["name"]
                self._objects.change(
                    _SLICE, namespace, name, lambda live: {**live, "endpoints": wanted["endpoints"]}, _BY
                )
        except ApiError:  # looked at again in the next pass
            return


def _slice_of(service: Object, pods: Sequence[Object]) -> Object:
    metadata, selector = service["metadata"], {"matchLabels": service["spec"]["selector"]}
    mine = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == metadata["namespace"]
        and selected(pod["metadata"].get("labels", {}), selector)
        and pod.get("status", {}).get("podIP")
    ]
    owner = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"]}
    labels = {"kubernetes.io/service-name": metadata["name"]}
    labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io"
    return {
        "metadata": {
            "name": metadata["name"],
            "labels": {**metadata.get("labels", {}), **labels},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(pod) for pod in sorted(mine, key=lambda pod: str(pod["metadata"]["name"]))],
        "ports": [{"port": port["port"], "protocol": "TCP"} for port in service["spec"].get("ports", [])],
    }


def _endpoint(pod: Object) -> Object:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    serving, going = conditions.get("Ready") == "True", bool(pod["metadata"].get("deletionTimestamp"))
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": serving and not going, "serving": serving, "terminating": going},
        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
    }


def _key(value: Object) -> tuple[str, str]:
    return value["metadata"]["namespace"], value["metadata"]["name"]
