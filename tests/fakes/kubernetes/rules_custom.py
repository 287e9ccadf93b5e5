"""Rules of custom kinds that are written in CEL, of those that what Fleetune sends could break: here in Python.

Of Gateway API 1.6 (HTTPRoute), its Inference Extension (InferencePool v1) and KEDA 2.20 (ScaledObject). Rules about
filters are left out; other kinds that are sent have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.fakes.kubernetes.schemas import Flaw, Object, Resource

_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
_NOT_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F", "#")
_MATCHES = 128


def broken_cel(resource: Resource, spec: Object) -> Iterator[Flaw]:
    """Yield what an object of a custom kind may not say, though it fits its schema."""
    match resource.kind:
        case "HTTPRoute":
            yield from _route(spec)
        case "InferencePool":
            ports = [each["number"] for each in spec.get("targetPorts", [])]
            picker = spec.get("endpointPickerRef", {})
            if len(set(ports)) < len(ports):
                yield _flaw("targetPorts", "port number must be unique")
            if picker.get("kind") == "Service" and "port" not in picker:
                yield _flaw("endpointPickerRef", "port is required when kind is 'Service' or unspecified")
        case "ScaledObject" if spec.get("minReplicaCount", 0) > spec.get("maxReplicaCount", 100):
            yield _flaw("", "minReplicaCount must be less than or equal to maxReplicaCount")


def _route(spec: Object) -> Iterator[Flaw]:
    parents = [(p.get("namespace", ""), p["name"], p.get("sectionName", "")) for p in spec.get("parentRefs", [])]
    if len(set(parents)) < len(parents):
        yield _flaw("parentRefs", "sectionName must be unique when parentRefs includes 2 or more references")
    if any(a[:2] == b[:2] and bool(a[2]) != bool(b[2]) for a in parents for b in parents):
        yield _flaw("parentRefs", "sectionName must be specified when parentRefs includes 2 or more references")
    rules = spec.get("rules", [])
    if sum(len(rule.get("matches", [])) for rule in rules) > _MATCHES:
        yield _flaw("rules", "the total number of matches across all rules in a route must be less than 128")
    for rule in rules:
        for backend in rule.get("backendRefs", []):
            if (backend["group"], backend["kind"]) == ("", "Service") and "port" not in backend:
                yield _flaw("rules.backendRefs", "Must have port for Service reference")
        for match in rule.get("matches", []):
            yield from _path(match.get("path", {}))


def _path(path: Object) -> Iterator[Flaw]:
    value = path.get("value", "/")
    if path.get("type", "PathPrefix") == "RegularExpression":
        return
    if not value.startswith("/") or not _PATH.fullmatch(value) or value.endswith(("/..", "/.")):
        yield _flaw("rules.matches.path", "value must be an absolute path of valid characters")
    if any(each in value for each in _NOT_IN_PATHS):
        yield _flaw("rules.matches.path", f"must not contain one of {', '.join(_NOT_IN_PATHS)}")


def _flaw(path: str, message: str) -> Flaw:
    return Flaw(f"spec.{path}".rstrip("."), f"Invalid value: {message}")
