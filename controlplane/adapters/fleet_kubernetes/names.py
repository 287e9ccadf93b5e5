"""Which engines share a Deployment: those of one owner, which all run the same. Its name and labels. Pure."""

from __future__ import annotations

import hashlib
import re

from controlplane.domain.base import EngineId, ServiceName
from controlplane.domain.owner import Owner, ReplayOwner, ReplicaOwner, TrialOwner

GROUP = "app.kubernetes.io/instance"
"""The label that holds a Deployment's name, on itself and on its pods."""
SELECTOR = "app.kubernetes.io/managed-by=fleetune,app.kubernetes.io/component=engine"
_LONGEST = 50  # what a ReplicaSet and a pod add to it still fits a label of 63


def group_name(owner: Owner, *, spot: bool = False) -> str:
    """Return the name of an owner's Deployment: the same each time, a DNS label, unlike any other owner's.

    Replicas on spot nodes have one of their own: its pods ask for other nodes.
    """
    match owner:
        case ReplicaOwner():
            return short_name(_lettered(f"{owner.service}-{owner.revision}{'-spot' if spot else ''}"))
        case TrialOwner():
            return short_name(f"trial-{owner.study_id}-{owner.number}")
        case ReplayOwner():
            return short_name(f"replay-{owner.service}-{owner.number}")


def set_name(engine_id: EngineId) -> str:
    """Return the name of the LeaderWorkerSet of one engine, unlike that of any Deployment."""
    return short_name(f"set-{engine_id}")


def route_name(service: ServiceName) -> str:
    """Return the name of a service's HTTPRoute."""
    return short_name(service)


def labels_of(owner: Owner, *, spot: bool = False) -> dict[str, str]:
    """Return the labels of an owner's objects and pods. Roles (stable, canary) are nowhere in them."""
    shared = {
        GROUP: group_name(owner, spot=spot),
        "app.kubernetes.io/component": "engine",
        "app.kubernetes.io/managed-by": "fleetune",
    }
    match owner:
        case ReplicaOwner():
            own = {"app.kubernetes.io/name": owner.service, "fleetune.dev/service": owner.service}
            return {**shared, **own, "fleetune.dev/revision": owner.revision}
        case TrialOwner():
            return {**shared, "fleetune.dev/study": short_name(owner.study_id)}
        case ReplayOwner():
            return {**shared, "fleetune.dev/replay-of": owner.service}


def _lettered(name: str) -> str:
    """Return a name that begins with a letter, as that of a Service must; with its dot it is nobody's own."""
    return name if name[:1].isalpha() else f"r.{name}"


def short_name(name: str) -> str:
    """Return a name as a DNS label. What had to be changed ends in a hash of the whole: no two become one."""
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")
    if plain == name and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[: _LONGEST - 9].strip('-')}-{digest}"
