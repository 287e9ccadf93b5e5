"""The Kubernetes fleet as a subject of the contract: four GPUs on one node, of the stand-in or of a real server."""

from __future__ import annotations

import signal

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.steps import Patience
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions
from tests.contract.fleet_subjects import GPUS, LiveSubject, stop_all
from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.pod_life import PodLife

IMAGE = f"registry.example/fleetune/engine@sha256:{0:064}"


def cluster_options(server: Server) -> ClusterOptions:
    """Engines of a test go to its own node."""
    return ClusterOptions(
        namespace=server.namespace, image=IMAGE, node_selector={"fleetune.dev/test": server.namespace}
    )


def cluster_fleet(server: Server, *, patience: Patience = Patience()) -> FleetKubernetes:  # noqa: B008 - immutable
    """Return a fleet in the namespace of a test."""
    options = cluster_options(server)
    return FleetKubernetes(
        open_door(server.kubeconfig()),
        namespace=server.namespace,
        options=lambda _: options,
        node_selector=options.node_selector,
        patience=patience,
    )


class ClusterSubject(LiveSubject):
    """Pods that a kubelet runs as processes of the stub."""

    def __init__(self, server: Server, *, patience: Patience = Patience()) -> None:  # noqa: B008 - immutable
        self.server = server
        self.node = server.add_node(gpus=GPUS)
        self.fleet: FleetKubernetes = cluster_fleet(server, patience=patience)

    def crash(self, engine_id: EngineId) -> None:
        self._life(engine_id).signal(signal.SIGKILL)

    def hang(self, engine_id: EngineId) -> None:
        self._life(engine_id).signal(signal.SIGSTOP)

    def wake(self, engine_id: EngineId) -> None:
        self._life(engine_id).signal(signal.SIGCONT)

    def close(self) -> None:
        stop_all(self.fleet, self.wait)
        self.fleet.close()

    def _life(self, engine_id: EngineId) -> PodLife:
        pod = self.fleet.observe(engine_id).pod
        assert pod is not None
        return self.node.life(pod)
