"""Every write of the fleet: groups of engines made, changed and removed, and what their pods cost to take away."""

from __future__ import annotations

from controlplane.adapters.engine_counts import in_flight
from controlplane.adapters.fleet_kubernetes.door import Door, Json, Place
from controlplane.adapters.fleet_kubernetes.group import Group, group_of, url_of
from controlplane.adapters.fleet_kubernetes.ledger import Ledger, noted, read_ledger, replicas
from controlplane.adapters.fleet_kubernetes.manifests import budget, deployment, same_deployment, service
from controlplane.adapters.fleet_kubernetes.names import group_name, set_name
from controlplane.adapters.fleet_kubernetes.pods import nodes_of
from controlplane.adapters.fleet_kubernetes.retries import attempts
from controlplane.adapters.fleet_kubernetes.sets import leader_worker_set, no_sets, same_set
from controlplane.adapters.fleet_kubernetes.sight import COST, PodSight
from controlplane.adapters.fleet_kubernetes.view import ClusterView
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import NotFound, StaleVersion
from controlplane.domain.owner import ReplicaOwner

_FIRST_TO_GO = "-2147483648"


class GroupWriter:
    """Writes what the view then knows at once. Raises what the door raises."""

    def __init__(self, door: Door, namespace: str, view: ClusterView) -> None:
        self._door, self._view = door, view
        self._services_at = Place("api/v1", "services", namespace)
        self._budgets_at = Place("apis/policy/v1", "poddisruptionbudgets", namespace)

    def create(self, spec: EngineSpec, cluster: ClusterOptions, ledger: Ledger) -> Group:
        """Make a group of an owner's engines, and what its replicas share."""
        if isinstance(spec.owner, ReplicaOwner):
            self._door.apply(self._services_at, service(spec, cluster))
            self._door.apply(self._budgets_at, budget(spec, cluster))
        notes, count = noted(spec, ledger), replicas(ledger)
        if nodes_of(spec, cluster) == 1:
            return self._written(deployment(spec, cluster, replicas=count, annotations=notes), None)
        name = set_name(spec.engine_id)
        made = leader_worker_set(spec, cluster, name=name, replicas=count, annotations=notes)
        try:
            return self._written(made, None)
        except NotFound as error:
            raise no_sets(f"engine {spec.engine_id} spans nodes") from error

    def update(self, group: Group, ledger: Ledger) -> Group:
        """Write a group's ledger. Raises StaleVersion when it changed since it was read."""
        notes, count = noted(group.spec, ledger), replicas(ledger)
        if count < replicas(group.ledger):
            self._price(group, ledger)
        same = same_set if group.is_set else same_deployment
        return self._written(same(group.workload, replicas=count, annotations=notes), group)

    def remove(self, group: Group) -> None:
        """Delete a group, unless an engine of it was started meanwhile, and what the last of its owner leaves."""
        place = self._view.place_of(group)
        for _ in attempts():
            present = self._door.get(place, group.name)
            if present is not None and read_ledger(present):
                return
            try:
                if present is not None:
                    self._door.delete(place, group.name, version=str(present["metadata"]["resourceVersion"]))
                break
            except StaleVersion:  # its status changed
                continue
        else:  # it changes all the time, and while it is there its Service is: removed when it is looked at next
            return
        if isinstance(group.spec.owner, ReplicaOwner) and not self._has_others(group):
            shared = group_name(group.spec.owner)
            self._door.delete(self._services_at, shared)
            self._door.delete(self._budgets_at, shared)

    def delete_pod(self, name: str, *, grace_s: int) -> None:
        self._door.delete(self._view.pods_at, name, grace_s=grace_s)

    def _has_others(self, group: Group) -> bool:
        others = (each for each in self._view.groups() if each.name != group.name)
        return any(each.spec.owner == group.spec.owner for each in others)

    def _written(self, value: Json, group: Group | None) -> Group:
        made = group_of(value) if group is None else group
        written = self._door.apply(self._view.place_of(made), value)
        self._view.heard(written)
        return made.as_written(written)

    def _price(self, group: Group, ledger: Ledger) -> None:
        """Let the pods of engines that go be the cheapest, and the others cost what they have in flight.

        Should the cluster be faster than we, or take one more, it takes the one with the least to finish.
        """
        for entry in ledger.values():
            sight = group.pod_of(entry)
            if sight is None or sight.deleting_grace_s is not None:
                continue
            cost = str(_busy(group, sight)) if entry.is_wanted else _FIRST_TO_GO
            if cost != sight.cost:
                self._door.merge(self._view.pods_at, sight.name, {"metadata": {"annotations": {COST: cost}}})


def _busy(group: Group, sight: PodSight) -> int:
    if sight.address is None or not sight.is_ready:
        return 0
    return in_flight(url_of(sight.address), group.spec.driver.metrics) or 0
