"""What the parts of a pod's description mean beyond their types: names, ports, volumes, tolerations, probes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.kubernetes.schemas import Flaw, Object

_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_VARIABLE = re.compile(r"[ -<>-~]+")
"""Any printable sign but `=`: variables have been named freely since 1.34."""
_RESTARTS = {"Deployment": ("Always",), "ReplicaSet": ("Always",), "Job": ("OnFailure", "Never")}


def bad_labels(path: str, labels: Object) -> Iterator[Flaw]:
    """Yield keys and values of labels that no object may have."""
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            yield Flaw(path, f"Invalid value: {key!r}: name part must consist of alphanumeric characters")
        if not _LABEL.fullmatch(value):
            yield Flaw(path, f"Invalid value: {value!r}: a valid label is empty, or 63 characters at most")


def bad_pod(kind: str, pod: Object) -> Iterator[Flaw]:
    """Yield what is wrong with the description of a pod within an object of a kind."""
    allowed = _RESTARTS.get(kind)
    if allowed is not None and pod.get("restartPolicy") not in allowed:
        yield Flaw(
            "spec.restartPolicy", f'Unsupported value: "{pod.get("restartPolicy")}": supported values: {allowed}'
        )
    yield from bad_labels("spec.nodeSelector", pod.get("nodeSelector", {}))
    for toleration in pod.get("tolerations", []):
        yield from _bad_toleration(toleration)
    volumes = [each["name"] for each in pod.get("volumes", [])]
    yield from (Flaw("spec.volumes.name", f"Duplicate value: {name!r}") for name in _twice(volumes))
    containers = [*pod.get("initContainers", []), *pod.get("containers", [])]
    if not pod.get("containers"):
        yield Flaw("spec.containers", "Required value")
    names = [each["name"] for each in containers]
    yield from (Flaw("spec.containers.name", f"Duplicate value: {name!r}") for name in _twice(names))
    for container in containers:
        yield from _bad_container(container, volumes)


def _bad_toleration(toleration: Object) -> Iterator[Flaw]:
    if toleration.get("operator") == "Exists" and toleration.get("value"):
        yield Flaw("spec.tolerations.operator", "Invalid value: value must be empty when `operator` is 'Exists'")
    if not toleration.get("key") and toleration.get("operator") != "Exists":
        yield Flaw("spec.tolerations.operator", "Invalid value: operator must be Exists when `key` is empty")
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        yield Flaw("spec.tolerations.effect", "Invalid value: effect must be 'NoExecute' when it has seconds")


def _bad_container(container: Object, volumes: list[str]) -> Iterator[Flaw]:
    if not _DNS_LABEL.fullmatch(container["name"]):
        yield Flaw("spec.containers.name", f"Invalid value: {container['name']!r}")
    image = container.get("image", "")
    if not image.strip() or image != image.strip():
        yield Flaw("spec.containers.image", f"Invalid value: {image!r}")
    for variable in container.get("env", []):
        if not _VARIABLE.fullmatch(variable["name"]):
            yield Flaw("spec.containers.env.name", f"Invalid value: {variable['name']!r}")
    for port in container.get("ports", []):
        if not _PORT_NAME.fullmatch(port.get("name", "a")) or not 0 < port["containerPort"] < 65536:
            yield Flaw("spec.containers.ports", f"Invalid value: {port}")
    for probe in ("livenessProbe", "startupProbe"):
        if container.get(probe, {}).get("successThreshold", 1) != 1:
            yield Flaw(f"spec.containers.{probe}.successThreshold", "Invalid value: must be 1")
    yield from _bad_mounts(container, volumes)
    yield from _bad_amounts(container.get("resources", {}))


def _bad_mounts(container: Object, volumes: list[str]) -> Iterator[Flaw]:
    mounts = container.get("volumeMounts", [])
    missing = (mount["name"] for mount in mounts if mount["name"] not in volumes)
    yield from (Flaw("spec.volumeMounts", f"Not found: {name!r}") for name in missing)
    for path in _twice([mount["mountPath"] for mount in mounts]):
        yield Flaw("spec.containers.volumeMounts.mountPath", f'Invalid value: "{path}": must be unique')


def _bad_amounts(resources: dict[str, Any]) -> Iterator[Flaw]:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name in (each for each in {**limits, **requests} if "/" in each):
        if name in requests and str(requests[name]) != str(limits.get(name)):
            yield Flaw("spec.containers.resources.requests", f"Invalid value: must equal the limit of {name}")
        if str(limits.get(name, "")).endswith("m"):
            yield Flaw("spec.containers.resources.limits", f"Invalid value: {limits[name]!r}: must be an integer")


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
