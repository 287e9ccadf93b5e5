"""What one write may change of an object, and what it counts for: status or the rest, versions, generation, grace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from tests.fakes.kubernetes.errors import ApiError, invalid, stale
from tests.fakes.kubernetes.schemas import Flaw, Object, Resource

ADDRESSES = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
"""What a Service is given when it is made."""
FOREGROUND = "foregroundDeletion"
"""The finalizer of an object that goes after what it owns."""
_CONDITIONAL = ("Lease", "PodDisruptionBudget")  # a replacement of these must say which version it replaces


class Writer(NamedTuple):
    """Who writes, and how strictly it wants to be read."""

    manager: str = "controller"
    subresource: str = ""
    strict: bool = False
    dry_run: bool = False
    force: bool = False


def taken(resource: Resource, live: Object, value: Object, by: Writer) -> Object:
    """Return what a write may change: all but the status, or the status alone."""
    metadata = {**value.get("metadata", {})}
    for fixed in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "name"):
        if fixed in live["metadata"]:
            metadata[fixed] = live["metadata"][fixed]
    metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
    metadata["managedFields"] = live["metadata"].get("managedFields", [])
    if resource.namespaced:
        metadata["namespace"] = live["metadata"]["namespace"]
    if by.subresource == "status":
        noted = {"annotations": metadata["annotations"]} if metadata.get("annotations") else {}
        return {**live, "metadata": {**live["metadata"], **noted}, "status": value.get("status", {})}
    if resource.kind == "Service":  # who does not say its addresses does not mean to change them
        addressed = {name: live["spec"][name] for name in ADDRESSES if name in live["spec"]}
        value = {**value, "spec": {**addressed, **value.get("spec", {})}}
    if "status" in resource.subresources:
        kept = {name: each for name, each in value.items() if name != "status"}
        return {**kept, "metadata": metadata, **({"status": live["status"]} if "status" in live else {})}
    return {**value, "metadata": metadata}


def check_replaced(resource: Resource, value: Object) -> None:
    """Refuse a replacement that does not say which version it replaces, of the kinds that must."""
    if (resource.custom or resource.kind in _CONDITIONAL) and not value.get("metadata", {}).get("resourceVersion"):
        why = "Invalid value: 0: must be specified for an update"
        raise invalid(resource, str(value["metadata"].get("name")), [Flaw("metadata.resourceVersion", why)])


def check_applied(resource: Resource, name: str, value: Object) -> None:
    """Refuse what may not be said of an applied object."""
    if (value.get("apiVersion"), value.get("kind")) != (resource.api_version, resource.kind):
        raise ApiError(400, f"the object is no {resource.api_version}, Kind={resource.kind}")
    if value.get("metadata", {}).get("managedFields"):
        raise ApiError(400, "metadata.managedFields must be nil")
    given = value.get("metadata", {}).get("name", name)
    if given != name:
        raise ApiError(400, f"the name of the object ({given}) does not match the name on the URL ({name})")


def check_namespace(resource: Resource, namespace: str, value: Object) -> None:
    """Refuse an object of another namespace than the one it is sent to."""
    if resource.namespaced and (value.get("metadata") or {}).get("namespace", namespace) != namespace:
        raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")


def check_uid(resource: Resource, name: str, value: Object) -> None:
    """Refuse to make an object that was meant to be there: by its uid. A resource version alone is no such word."""
    uid = value.get("metadata", {}).get("uid")
    if uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise ApiError(409, f'Operation cannot be fulfilled on {resource.full_name} "{name}": {why}')


def check_preconditions(resource: Resource, live: Object, only: Object) -> None:
    for field, wanted in only.items():
        name, there = {"uid": "UID", "resourceVersion": "ResourceVersion"}[field], live["metadata"][field]
        if there != wanted:
            why = f"Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {there}"
            raise ApiError(
                409, f'Operation cannot be fulfilled on {resource.full_name} "{live["metadata"]["name"]}": {why}'
            )


def check_same(resource: Resource, live: Object, value: Object, *, is_whole: bool) -> None:
    """Refuse a write that names the uid of another object: a replacement's is a precondition, a patch's a change."""
    given, there, name = value.get("metadata", {}).get("uid"), live["metadata"]["uid"], live["metadata"]["name"]
    if given in (None, "", there):
        return
    if is_whole:
        check_preconditions(resource, live, {"uid": given})
    raise invalid(resource, name, [Flaw("metadata.uid", f'Invalid value: "{given}": field is immutable')])


def check_version(resource: Resource, live: Object, value: Object) -> None:
    given = value.get("metadata", {}).get("resourceVersion")
    if given and given != live["metadata"]["resourceVersion"]:
        raise stale(resource, live["metadata"]["name"])


def grace_of(resource: Resource, live: Object, asked: int | None) -> int:
    """How long a pod gets; one that no node has, or that ended, goes at once."""
    ended = live.get("status", {}).get("phase") in ("Failed", "Succeeded")
    if resource.kind != "Pod" or not live["spec"].get("nodeName") or ended:
        return 0
    return int(live["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)


def may_go(resource: Resource, value: Object) -> bool:
    metadata = value["metadata"]
    is_held = metadata.get("finalizers") or (resource.kind == "Namespace" and value["spec"].get("finalizers"))
    return not is_held and (resource.kind != "Pod" or metadata.get("deletionGracePeriodSeconds", 0) == 0)


def told(resource: Resource, value: Object) -> Object:
    """What counts for the generation: everything but metadata and status; of a Deployment its annotations too."""
    told = {name: each for name, each in value.items() if name not in ("metadata", "status")}
    noted = value["metadata"].get("annotations", {}) if resource.kind == "Deployment" else {}
    return {**told, "annotations": noted}


def without_times(value: Object) -> Object:
    entries = [{k: v for k, v in e.items() if k != "time"} for e in value["metadata"].get("managedFields", [])]
    return {**value, "metadata": {**value["metadata"], "managedFields": entries}}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
