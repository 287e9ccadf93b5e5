"""Label and field selectors of lists and watches, and the selectors inside objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.schemas import Resource

_FIELDS = {
    "Pod": (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
        *("status.phase", "status.podIP", "status.nominatedNodeName"),
    ),
    "Node": ("spec.unschedulable",),
    "Namespace": ("status.phase",),
    "Secret": ("type",),
    "ReplicaSet": ("status.replicas",),
    "Job": ("status.successful",),
}
"""What lists may be selected by beside name and namespace; by anything else a server refuses to select."""
_IN = re.compile(r"(\S+) (in|notin) \(([^)]*)\)")


def check_fields(resource: Resource, query: Mapping[str, str]) -> None:
    """Refuse a selection by a field that the kind is not indexed by. Raises ApiError."""
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(resource.kind, ()))
    for term in _terms(query.get("fieldSelector", "")):
        name = re.split("!?=", term)[0]
        if name not in known:
            raise ApiError(400, f"field label not supported: {name}")


def matches(value: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Say whether an object is in the selection that a query asks for."""
    labels = value["metadata"].get("labels", {})
    wanted = _terms(query.get("labelSelector", ""))
    fields = _terms(query.get("fieldSelector", ""))
    return all(_has(labels, term) for term in wanted) and all(_is_at(value, term) for term in fields)


def selected(labels: Mapping[str, str], selector: Mapping[str, Any]) -> bool:
    """Say whether labels fit a `matchLabels` selector."""
    return all(labels.get(name) == each for name, each in selector.get("matchLabels", {}).items())


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in re.split(r",(?![^(]*\))", selector) if term.strip()]


def _has(labels: Mapping[str, str], term: str) -> bool:
    found = _IN.fullmatch(term)
    if found is not None:
        is_in = labels.get(found[1]) in [each.strip() for each in found[3].split(",")]
        return is_in == (found[2] == "in")
    if "!=" in term:
        name, wanted = term.split("!=")
        return labels.get(name) != wanted
    if "=" in term:
        name, wanted = term.replace("==", "=").split("=")
        return labels.get(name) == wanted
    return term.removeprefix("!") in labels if not term.startswith("!") else term[1:] not in labels


def _is_at(value: Any, term: str) -> bool:
    name, wanted = re.split("!?==?", term)
    for part in name.split("."):
        value = value.get(part, {})
    return ((value or "") == wanted) != ("!=" in term)
