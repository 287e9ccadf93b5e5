"""What the control plane asks of a cluster, verb by verb: `deploy/kubernetes/rights.yaml` grants it, a test compares.

Whoever starts it is asked about every one beforehand: what is missing is one message, not a watch that fails an hour
later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from controlplane.adapters.fleet_kubernetes.door import Door, Place
from controlplane.domain.errors import Forbidden, NotFound

_REVIEWS = Place("apis/authorization.k8s.io/v1", "selfsubjectaccessreviews")


class Right(NamedTuple):
    """One verb on one kind of object; `namespaced` ones within the installation's namespace."""

    verb: str
    group: str
    resource: str
    namespaced: bool = True


def _rights(group: str, resource: str, verbs: str, *, namespaced: bool = True) -> tuple[Right, ...]:
    return tuple(Right(verb, group, resource, namespaced) for verb in verbs.split())


ENGINES = (
    *_rights("apps", "deployments", "get list watch create patch delete"),
    *_rights("", "pods", "list watch patch delete"),
    *_rights("", "services", "create patch delete"),
    *_rights("policy", "poddisruptionbudgets", "create patch delete"),
    *_rights("", "nodes", "list watch", namespaced=False),
)
"""What every installation on a cluster needs."""
SETS = _rights("leaderworkerset.x-k8s.io", "leaderworkersets", "get list watch create patch delete")
"""Replicas that span nodes."""
ROUTES = (
    *_rights("gateway.networking.k8s.io", "httproutes", "list watch create patch delete"),
    *_rights("discovery.k8s.io", "endpointslices", "list watch"),
)
"""`kubernetes.route`."""
POOLS = _rights("inference.networking.k8s.io", "inferencepools", "list create patch delete")
"""`kubernetes.route.picker`."""
DONE_WITHOUT = (
    *_rights("", "pods/log", "get"),  # the last words of a container stand in its status too
    *_rights("", "namespaces", "get", namespaced=False),
)
IN_PODS = (
    *_rights("batch", "jobs", "create patch delete"),
    *_rights("coordination.k8s.io", "leases", "get create update"),
)
"""Of controllers and workers that are pods of the chart, which grants them: load generators, and who leads."""


def require(door: Door, namespace: str, rights: Sequence[Right]) -> None:
    """Raise Forbidden naming every right that is missing. A server that reviews none is believed to grant them."""
    try:
        missing = list(_missing(door, namespace, rights))
    except (Forbidden, NotFound):  # every authenticated user may ask, unless somebody took that away
        return
    if missing:
        named = ", ".join(f"verb {each.verb} on {each.resource}" for each in missing)
        kind = "a Role" if any(each.namespaced for each in missing) else "a ClusterRole"
        raise Forbidden(
            f"Fleetune may not do all that it does in namespace {namespace}",
            why=f"{len(missing)} of {len(rights)} rights are missing",
            allowed=f"{kind} with {named}: deploy/kubernetes/rights.yaml",
        )


def _missing(door: Door, namespace: str, rights: Sequence[Right]) -> Iterator[Right]:
    for each in rights:
        asked = {"verb": each.verb, "group": each.group}
        asked["resource"], _, sub = each.resource.partition("/")
        asked |= {"subresource": sub} if sub else {}
        asked |= {"namespace": namespace} if each.namespaced else {}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        if not door.create(_REVIEWS, review)["status"]["allowed"]:
            yield each
