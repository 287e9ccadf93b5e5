"""What values mean, beyond their types: the few rules of validation that matter here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from tests.fakes.kubernetes.creation import changed_what_is_fixed
from tests.fakes.kubernetes.defaults import pod_spec
from tests.fakes.kubernetes.rules_custom import broken_cel
from tests.fakes.kubernetes.rules_pods import bad_labels, bad_pod
from tests.fakes.kubernetes.schemas import Flaw, Object, Resource

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def semantic_flaws(resource: Resource, live: Object | None, value: Object) -> Sequence[Flaw]:
    """Return what a server answers 422 to, though every type is right."""
    spec = value.get("spec") if isinstance(value.get("spec"), dict) else {}
    assert spec is not None
    return [
        *_bad_names(resource, value["metadata"]),
        *_bad_annotations(value["metadata"]),
        *_bad_lease(resource, spec),
        *_bad_addresses(resource, value),
        *_bad_replicas(spec),
        *changed_what_is_fixed(resource, live, value),
        *_bad_selector(resource, spec),
        *(broken_cel(resource, spec) if resource.custom else ()),
        *bad_labels("spec.template.metadata.labels", _template_labels(resource, spec)),
        *(bad_pod(resource.kind, pod) if (pod := pod_spec(resource, spec)) is not None else ()),
    ]


def _bad_names(resource: Resource, metadata: Object) -> list[Flaw]:
    form = _SERVICE_NAME if resource.kind == "Service" else _NAME
    found = [] if form.fullmatch(metadata["name"]) else [Flaw("metadata.name", f"Invalid value: {metadata['name']!r}")]
    return [*found, *bad_labels("metadata.labels", metadata.get("labels", {}))]


def _template_labels(resource: Resource, spec: Object) -> Object:
    labels: Object = spec.get("template", {}).get("metadata", {}).get("labels", {}) if pod_spec(resource, spec) else {}
    return labels


def _bad_annotations(metadata: Object) -> list[Flaw]:
    size = sum(len(name) + len(value) for name, value in metadata.get("annotations", {}).items())
    most = 256 * 1024
    return [Flaw("metadata.annotations", f"Too long: may not be more than {most} bytes")] if size > most else []


def _bad_lease(resource: Resource, spec: Object) -> list[Flaw]:
    if resource.kind != "Lease" or spec.get("leaseDurationSeconds", 1) > 0:
        return []
    return [Flaw("spec.leaseDurationSeconds", "Invalid value: must be greater than 0")]


def _bad_addresses(resource: Resource, value: Object) -> list[Flaw]:
    """An endpoint is an address that others can reach: the loopback of each is none, nor is a link's own."""
    if resource.kind != "EndpointSlice" or value.get("addressType") == "FQDN":
        return []
    said = [text for each in value.get("endpoints") or [] for text in each["addresses"]]
    return [
        Flaw("endpoints.addresses", f'Invalid value: "{text}": may not be in the loopback range (127.0.0.0/8, ::1/128)')
        for text in said
        if (address := ip_address(text)).is_loopback or address.is_link_local or address.is_unspecified
    ]


def _bad_replicas(spec: Object) -> list[Flaw]:
    replicas = spec.get("replicas", 0)
    if isinstance(replicas, int) and replicas < 0:
        return [Flaw("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0")]
    return []


def _bad_selector(resource: Resource, spec: Object) -> list[Flaw]:
    if resource.kind not in ("Deployment", "ReplicaSet"):
        return []
    labels = spec.get("template", {}).get("metadata", {}).get("labels", {})
    wanted = spec.get("selector", {}).get("matchLabels", {})
    if not wanted or any(labels.get(name) != value for name, value in wanted.items()):
        return [Flaw("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`")]
    return []
