"""What a server writes into the description of a pod that does not say it, within a template or a pod itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes.kubernetes.schemas import Object

_SPEC = {
    "terminationGracePeriodSeconds": 30,
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}
_MODE = 0o644
_WITH_MODE = ("configMap", "secret", "projected", "downwardAPI")


def fill_pod(spec: Object, *, is_pod: bool) -> None:
    """Write the defaults into a description; those that templates do not get only when it `is_pod`."""
    fill(spec, _SPEC)
    if is_pod:
        fill(spec, {"enableServiceLinks": True})
    if "serviceAccountName" in spec:  # its older name says the same
        fill(spec, {"serviceAccount": spec["serviceAccountName"]})
    for volume in spec.get("volumes", []):
        _fill_volume(volume)
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        _fill_container(container, is_pod=is_pod)


def fill(value: Object, defaults: Mapping[str, Any]) -> None:
    """Write what is not said."""
    for name, default in defaults.items():
        value.setdefault(name, default.copy() if isinstance(default, dict) else default)


def qos_class(spec: Object) -> str:
    """Return how a pod is served when its node is short of CPU or memory."""
    amounts = [each.get("resources", {}) for each in spec.get("containers", [])]
    asked = [{n: v for n, v in each.get("requests", {}).items() if n in ("cpu", "memory")} for each in amounts]
    most = [{n: v for n, v in each.get("limits", {}).items() if n in ("cpu", "memory")} for each in amounts]
    if not any(asked) and not any(most):
        return "BestEffort"
    return "Guaranteed" if asked == most and all(len(each) == 2 for each in most) else "Burstable"


def _fill_volume(volume: Object) -> None:
    if isinstance(volume.get("hostPath"), dict):
        fill(volume["hostPath"], {"type": ""})
    for kind in _WITH_MODE:
        if isinstance(volume.get(kind), dict):
            fill(volume[kind], {"defaultMode": _MODE})
    if volume.keys() == {"name"}:
        volume["emptyDir"] = {}


def _fill_container(container: Object, *, is_pod: bool) -> None:
    fill(container, {**_CONTAINER, "imagePullPolicy": _pull_policy(container.get("image", ""))})
    limits = container["resources"].get("limits", {})
    if limits and is_pod:  # a template says it only once it is a pod
        fill(container["resources"].setdefault("requests", {}), limits)
    for port in container.get("ports", []):
        fill(port, {"protocol": "TCP"})
    for variable in container.get("env", []):
        if "fieldRef" in variable.get("valueFrom", {}):
            fill(variable["valueFrom"]["fieldRef"], {"apiVersion": "v1"})
    for probe in (container[name] for name in container if name.endswith("Probe")):
        fill(probe, _PROBE)
    for asked in _http_gets(container):
        fill(asked, {"path": "/", "scheme": "HTTP"})


def _http_gets(container: Object) -> Iterator[Object]:
    hooks = container.get("lifecycle", {}).values()
    for each in [*(container[name] for name in container if name.endswith("Probe")), *hooks]:
        if "httpGet" in each:
            yield each["httpGet"]


def _pull_policy(image: str) -> str:
    """An image without a tag, or with the tag `latest`, is asked for each time; one of a digest never changes."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if not digest and tag in ("", "latest") else "IfNotPresent"
