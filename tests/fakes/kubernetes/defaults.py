"""What a server writes into an object that does not say it: of custom kinds what their definitions say, of the others
what matters of those that Fleetune sends.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.fakes.kubernetes.schemas import Json, Object, Resource, resolved, schema_of

_POD = {
    "terminationGracePeriodSeconds": 30,
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
}
_ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
_OF_KIND: Mapping[str, Mapping[str, Any]] = {
    "Deployment": {"replicas": 1, "strategy": _ROLLING, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "ReplicaSet": {"replicas": 1},
    "Service": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
}
_TEMPLATED = ("Deployment", "ReplicaSet", "Job")


def defaulted(resource: Resource, value: Object) -> Object:
    """Return an object with its defaults."""
    if resource.kind == "Namespace":  # its controller empties it before it goes
        value.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    if resource.custom:
        for name, of in resolved(schema_of(resource))[1].get("properties", {}).items():
            if name in value and name != "metadata":
                _fill_defined(value[name], of)
    spec = value.get("spec")
    if not isinstance(spec, dict):
        return value
    _fill(spec, _OF_KIND.get(resource.kind, {}))
    for port in spec.get("ports", []) if resource.kind == "Service" else []:
        _fill(port, {"protocol": "TCP", "targetPort": port.get("port")})
    pod = pod_spec(resource, spec)
    if pod is not None:
        _fill_pod(pod, is_pod=resource.kind == "Pod")
    return value


def pod_spec(resource: Resource, spec: Object) -> Object | None:
    """Return the description of a pod in an object, None when it has none."""
    if resource.kind == "Pod":
        return spec
    found = spec.get("template", {}).get("spec")
    return found if resource.kind in _TEMPLATED and isinstance(found, dict) else None


def _fill_pod(pod: Object, *, is_pod: bool) -> None:
    _fill(pod, _POD)
    for volume in pod.get("volumes", []):
        if isinstance(volume.get("hostPath"), dict):
            _fill(volume["hostPath"], {"type": ""})
    for container in pod.get("containers", []):
        _fill_container(container, is_pod=is_pod)


def _fill_container(container: Object, *, is_pod: bool) -> None:
    _fill(container, _CONTAINER)
    limits = container["resources"].get("limits", {})
    if limits and is_pod:  # a template says it only once it is a pod
        _fill(container["resources"].setdefault("requests", {}), limits)
    for port in container.get("ports", []):
        _fill(port, {"protocol": "TCP"})
    for probe in (container[name] for name in container if name.endswith("Probe")):
        _fill(probe, _PROBE)
        if "httpGet" in probe:
            _fill(probe["httpGet"], {"path": "/", "scheme": "HTTP"})


def _fill_defined(value: Json, schema: Json) -> None:
    """Write the defaults of a custom kind's definition into what is there."""
    _, known = resolved(schema)
    if isinstance(value, list):
        for each in value:
            _fill_defined(each, known.get("items", {}))
    if not isinstance(value, dict):
        return
    properties = known.get("properties", {})
    for name, of in properties.items():
        if "default" in of:
            value.setdefault(name, copy.deepcopy(of["default"]))
    for name, each in value.items():
        _fill_defined(each, properties.get(name, known.get("additionalProperties") or {}))


def _fill(value: Object, defaults: Mapping[str, Any]) -> None:
    for name, default in defaults.items():
        value.setdefault(name, default.copy() if isinstance(default, dict) else default)
