"""Nodes that are taken back, by the taints that the clouds' termination handlers put on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from controlplane.adapters.fleet_kubernetes.door import Json
from controlplane.domain.operations.spot import Notice
from controlplane.ports import Clock

NOTICE_S: Mapping[str, float] = MappingProxyType(
    {
        "aws-node-termination-handler/spot-itn": 120.0,
        "karpenter.sh/disrupted": 120.0,
        "cloud.google.com/impending-node-termination": 30.0,
        "remediator.kubernetes.azure.com/unschedulable": 30.0,
        "remediator.aks.microsoft.com/unschedulable": 30.0,
    }
)
"""Taints that say a node goes, and how long a cloud gives from then on at least, seconds."""


class NodeNotices:
    """The notices port on a cluster. `nodes` returns every node as last heard of: a fleet watches them anyway."""

    def __init__(self, nodes: Callable[[], Sequence[Json]], *, clock: Clock) -> None:
        self._nodes, self._clock = nodes, clock

    def notices(self) -> Sequence[Notice]:
        """Return a notice for each node that goes. Raises Unavailable, Forbidden."""
        found = (notice_of(node, self._clock()) for node in self._nodes())
        return sorted(filter(None, found), key=lambda each: each.node or "")


def notice_of(node: Json, now: datetime) -> Notice | None:
    """Return what a node's taints say, None when it stays. Nothing says since when: it is seen as of now."""
    taint = leaving_by(node)
    if taint is None:
        return None
    name, ends_at = node["metadata"]["name"], now + timedelta(seconds=NOTICE_S[taint])
    return Notice(node=name, ends_at=ends_at, why=f"node {name} is taken back ({taint})")


def leaving_by(node: Json) -> str | None:
    """Return the taint by which a node goes; of several the one that gives least time."""
    keys = [taint["key"] for taint in node.get("spec", {}).get("taints") or () if taint["key"] in NOTICE_S]
    return min(keys, key=lambda key: (NOTICE_S[key], key), default=None)
