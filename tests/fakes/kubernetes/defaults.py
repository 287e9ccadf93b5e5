"""What a server writes into an object that does not say it: of custom kinds what their definitions say, of the others
what matters of those that Fleetune sends.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.fakes.kubernetes.defaults_pods import fill, fill_pod
from tests.fakes.kubernetes.schemas import Json, Object, Resource, resolved, schema_of

_ROLLING = {"maxUnavailable": "25%", "maxSurge": "25%"}
_JOB = {
    "backoffLimit": 6,
    "completionMode": "NonIndexed",
    "suspend": False,
    "manualSelector": False,
    "podReplacementPolicy": "TerminatingOrFailed",
}
_OF_KIND: Mapping[str, Mapping[str, Any]] = {
    "Deployment": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "ReplicaSet": {"replicas": 1},
    "Service": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
    "Job": _JOB,
    "NetworkPolicy": {"podSelector": {}},
    "HorizontalPodAutoscaler": {"minReplicas": 1},
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
    fill(spec, _OF_KIND.get(resource.kind, {}))
    _fill_more(resource, spec)
    pod = pod_spec(resource, spec)
    if pod is not None:
        fill_pod(pod, is_pod=resource.kind == "Pod")
    return value


def pod_spec(resource: Resource, spec: Object) -> Object | None:
    """Return the description of a pod in an object, None when it has none."""
    if resource.kind == "Pod":
        return spec
    found = spec.get("template", {}).get("spec")
    return found if resource.kind in _TEMPLATED and isinstance(found, dict) else None


def _fill_more(resource: Resource, spec: Object) -> None:
    """Write what depends on what is said."""
    match resource.kind:
        case "Deployment":
            fill(spec.setdefault("strategy", {}), {"type": "RollingUpdate"})
            if spec["strategy"]["type"] == "RollingUpdate":
                fill(spec["strategy"].setdefault("rollingUpdate", {}), _ROLLING)
        case "Service":
            for port in spec.get("ports", []):
                fill(port, {"protocol": "TCP", "targetPort": port.get("port")})
        case "Job":  # several at a time, and no number of completions: whoever is done first ends it
            fill(spec, {"parallelism": 1, **({} if "parallelism" in spec else {"completions": 1})})
        case "NetworkPolicy":
            fill(spec, {"policyTypes": ["Ingress", *(["Egress"] if spec.get("egress") else [])]})


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
