"""The GPUs of a cluster, as its nodes offer them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubernetes.utils.quantity import parse_quantity

from controlplane.adapters.fleet_kubernetes.door import Json
from controlplane.adapters.fleet_kubernetes.reclaims import leaving_by
from controlplane.adapters.fleet_kubernetes.sight import is_ready_node
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.words import counted


class Gpus:
    """What nodes offer of one extended resource, e.g. `nvidia.com/gpu`."""

    def __init__(self, nodes: Sequence[Json], resource: str) -> None:
        self._nodes, self._resource = nodes, resource

    def all(self, selector: Mapping[str, str]) -> int:
        """Return how many GPUs the ready nodes with these labels have."""
        return sum(self._of(node) for node in self._matching(selector) if _takes_pods(node))

    def require(self, gpus: int, selector: Mapping[str, str]) -> None:
        """Raise Unavailable when no node has such GPUs (one may be on its way), InvalidInput when none has enough."""
        nodes = [node for node in self._matching(selector) if self._of(node)]
        if not nodes:
            labels = ", ".join(f"{name}={value}" for name, value in selector.items()) or "any label"
            kinds = sorted(
                {f"{k}={v}" for n in self._nodes for k, v in _labels(n).items() if "gpu" in k and self._of(n)}
            )
            raise Unavailable(
                f"no node has {self._resource} and {labels}",
                why=f"the cluster has {counted(len(self._nodes), 'node')}",
                allowed=f"kubernetes.node_selector with one of: {', '.join(kinds) or 'no node has such a GPU'}",
            )
        largest = max(self._of(node) for node in nodes)
        if gpus > largest:
            raise InvalidInput(f"an engine on {gpus} GPUs cannot run here", why=f"the largest node has {largest}")

    def _matching(self, selector: Mapping[str, str]) -> Sequence[Json]:
        return [n for n in self._nodes if all(_labels(n).get(name) == value for name, value in selector.items())]

    def _of(self, node: Json) -> int:
        amount = node.get("status", {}).get("allocatable", {}).get(self._resource, 0)
        return int(parse_quantity(amount))  # type: ignore[no-untyped-call]  # a thousand is written `1k`


def of_kind(nodes: Sequence[Json], spot: bool | None, spot_labels: Sequence[Mapping[str, str]]) -> Sequence[Json]:
    """Return the nodes that have the labels of spot nodes, or do not, or all."""
    return [
        node
        for node in nodes
        if spot is None or spot == any(labels.items() <= _labels(node).items() for labels in spot_labels)
    ]


def ready_nodes(nodes: Sequence[Json]) -> frozenset[str]:
    """Return the names of nodes that are there."""
    return frozenset(node["metadata"]["name"] for node in nodes if is_ready_node(node))


def _takes_pods(node: Json) -> bool:
    return is_ready_node(node) and not node.get("spec", {}).get("unschedulable") and leaving_by(node) is None


def _labels(node: Json) -> Mapping[str, str]:
    found: Mapping[str, str] = node["metadata"].get("labels", {})
    return found
