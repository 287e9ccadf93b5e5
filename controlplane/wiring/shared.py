"""What the duties of one process share: on a cluster one set of watches, however many duties look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from controlplane.adapters.gateway.traffic import FindGateways, running_gateways
from controlplane.ports.fleet import Fleet
from controlplane.ports.reclaims import ReclaimNotices
from controlplane.settings import ClusterAccess, Settings
from controlplane.wiring.machine import installation_clock, open_cluster_fleet, open_fleet, reclaim_notices

if TYPE_CHECKING:
    from controlplane.adapters.fleet_kubernetes.gateways import GatewayPods


class Shared:
    """One per process. On a host every duty gets a fleet of its own: it looks at processes, which costs nobody else."""

    def __init__(self, settings: Settings) -> None:
        cluster = settings.cluster
        self._settings = settings
        self._fleet = None if cluster is None else open_cluster_fleet(settings, cluster)
        self._gateways = None if cluster is None or not cluster.gateways else _gateway_pods(cluster)

    def close(self) -> None:
        """End every watch."""
        if self._fleet is not None:
            self._fleet.close()
        if self._gateways is not None:
            self._gateways.close()

    def fleet(self, *, when_looked: Callable[[], None] | None = None) -> Fleet:
        """Return the engines, see `open_fleet`."""
        return open_fleet(self._settings, when_looked=when_looked) if self._fleet is None else self._fleet

    @property
    def find_gateways(self) -> FindGateways:
        """Who says where gateways listen: pods by their label, or processes of this host by their files."""
        return running_gateways(self._settings.data_dir) if self._gateways is None else self._gateways.find

    def notices(self) -> ReclaimNotices:
        """Return who says that what engines run on is taken back."""
        if self._fleet is None:
            return reclaim_notices(self._settings)
        from controlplane.adapters.fleet_kubernetes.reclaims import NodeNotices

        return NodeNotices(self._fleet.nodes, clock=installation_clock(self._settings))


def _gateway_pods(cluster: ClusterAccess) -> GatewayPods:
    from controlplane.adapters.fleet_kubernetes.door import open_door
    from controlplane.adapters.fleet_kubernetes.gateways import GatewayPods

    return GatewayPods(open_door(cluster.kubeconfig, cluster.context), cluster.namespace)
