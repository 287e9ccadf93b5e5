"""What watches know of a namespace: its engines in groups, with their pods, and the nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from controlplane.adapters.fleet_kubernetes.door import Door, Json, Place
from controlplane.adapters.fleet_kubernetes.group import Group, group_of
from controlplane.adapters.fleet_kubernetes.kept import of_node, of_pod
from controlplane.adapters.fleet_kubernetes.ledger import is_ours
from controlplane.adapters.fleet_kubernetes.names import GROUP, SELECTOR
from controlplane.adapters.fleet_kubernetes.nodes import ready_nodes
from controlplane.adapters.fleet_kubernetes.sets import PLURAL, TEMPLATE
from controlplane.adapters.fleet_kubernetes.sets import PREFIX as SETS
from controlplane.adapters.fleet_kubernetes.watched import Watched, by_label, end, end_with
from controlplane.domain.base import EngineId
from controlplane.domain.errors import Forbidden, NotFound


class Nodes(NamedTuple):
    """Names of nodes."""

    ready: frozenset[str]
    lost: frozenset[str]  # known, and not there


class ClusterView:
    """Holds its watches from the first look on, until `close`. Every look raises what keeps it from being known."""

    def __init__(self, door: Door, namespace: str, *, steady: Callable[[], float] = time.monotonic) -> None:
        self.deployments_at = Place("apis/apps/v1", "deployments", namespace)
        self.pods_at = Place("api/v1", "pods", namespace)
        self.sets_at = Place(SETS, PLURAL, namespace)
        self._deployments = Watched(door, self.deployments_at, selector=SELECTOR, steady=steady)
        self._pods = Watched(door, self.pods_at, selector=SELECTOR, keep=of_pod, steady=steady)
        self._nodes = Watched(door, Place("api/v1", "nodes"), keep=of_node, steady=steady)
        self._sets = Watched(door, self.sets_at, selector=SELECTOR, steady=steady)
        end_with(self, self._deployments, self._pods, self._nodes, self._sets)
        self._door = door
        self._has_sets: bool | None = None  # None: nobody asked yet

    def close(self) -> None:
        end(self._deployments, self._pods, self._nodes, self._sets)

    def place_of(self, group: Group) -> Place:
        return self.sets_at if group.is_set else self.deployments_at

    def heard(self, workload: Json) -> None:
        """Take in what was just written."""
        if TEMPLATE in workload["spec"]:
            self._has_sets = True
            self._sets.heard(workload)
        else:
            self._deployments.heard(workload)

    def groups(self) -> Sequence[Group]:
        """Return the engines there are, by Deployment or set; one that somebody is deleting has none any more.

        What another tool made of rendered manifests bears the same labels, and its pods are no engines of ours.
        """
        pods = by_label(self._pods.items(), GROUP)
        found = [*self._deployments.items(), *self._set_items()]
        mine = [each for each in found if is_ours(each) and not each["metadata"].get("deletionTimestamp")]
        return [group_of(each, pods.get(each["metadata"]["name"], ())) for each in mine]

    def _set_items(self) -> Sequence[Json]:
        """Sets are watched once there is one: few clusters have them installed."""
        if self._has_sets is None:
            try:
                self._has_sets = bool(self._door.list(self.sets_at, labelSelector=SELECTOR, limit="1")["items"])
            except (NotFound, Forbidden):
                self._has_sets = False
        return self._sets.items() if self._has_sets else ()

    def known(self, engine_id: EngineId) -> Group | None:
        return next((each for each in self.groups() if engine_id in each.ledger), None)

    def find(self, engine_id: EngineId) -> Group:
        """Return an engine's group, asking the server when it is not known. Raises NotFound."""
        found = self.known(engine_id)
        if found is None:
            for watched in (self._deployments, *([self._sets] if self._has_sets else [])):
                watched.ask()
            found = self.known(engine_id)
        if found is None:
            raise NotFound(f"no engine {engine_id}")
        return found

    def nodes(self) -> Sequence[Json]:
        return self._nodes.items()

    def node_names(self) -> Nodes:
        nodes = self.nodes()
        ready = ready_nodes(nodes)
        return Nodes(ready=ready, lost=frozenset(each["metadata"]["name"] for each in nodes) - ready)
