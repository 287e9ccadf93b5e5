"""The Kubernetes fleet as a subject of the contract: four GPUs on one node, of the stand-in or of a real server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions, SpotNodes
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.host.clock import utc_now
from controlplane.ports import Clock
from tests.contract.fleet_subjects import GPUS, LiveSubject, a_spec, observe_until, stop_all
from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.pod_life import PodLife

IMAGE = f"registry.example/fleetune/engine@sha256:{0:064}"

REVISION = "rollout/chat/rev-1"


def cluster_options(server: Server) -> ClusterOptions:
    """Engines of a test go to its own node."""
    return ClusterOptions(
        namespace=server.namespace, image=IMAGE, node_selector={"fleetune.dev/test": server.namespace}
    )


def cluster_fleet(server: Server, *, clock: Clock = utc_now, spot: SpotNodes | None = None) -> FleetKubernetes:
    """Return a fleet in the namespace of a test."""
    options = cluster_options(server).evolve(spot=spot)
    return FleetKubernetes(
        open_door(server.kubeconfig()),
        namespace=server.namespace,
        options=lambda _: options,
        node_selector=options.node_selector,
        spot_labels=lambda: [] if spot is None else [spot.node_selector],
        clock=clock,
    )


class ClusterSubject(LiveSubject):
    """Pods that a kubelet runs as processes of the stub."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._ahead = timedelta()
        self.node = server.add_node(gpus=GPUS)
        self.fleet: FleetKubernetes = cluster_fleet(server, clock=lambda: utc_now() + self._ahead)

    def crash(self, engine_id: EngineId) -> None:
        self._life(engine_id).signal(signal.SIGKILL)

    def hang(self, engine_id: EngineId) -> None:
        self._life(engine_id).signal(signal.SIGSTOP)

    def wake(self, engine_id: EngineId) -> None:
        self._life(engine_id).signal(signal.SIGCONT)

    def wait_until_it_waits_for(self, what: str) -> None:
        """Return once an engine says that this holds it up."""
        self.wait(lambda: any(what in str(engine.waits_for) for engine in self.fleet.list()))

    def let_pass(self, seconds: float) -> None:
        """Let the fleet's clock jump."""
        self._ahead += timedelta(seconds=seconds)

    def close(self) -> None:
        stop_all(self.fleet, self.wait)
        self.fleet.close()

    def _life(self, engine_id: EngineId) -> PodLife:
        pod = self.fleet.observe(engine_id).pod
        assert pod is not None
        return self.node.life(pod)


@contextmanager
def a_cluster_of_its_own(folder: Path) -> Iterator[ClusterSubject]:
    """Run a fleet on a stand-in that no other test uses, for faults that would reach them."""
    running = StandIn(folder)
    made = ClusterSubject(Server(folder, stand_in=running))
    yield made
    running.faults.clear()
    running.objects.denials.clear()
    running.server.is_out = False
    made.fleet.close()
    running.stop()


def faults(subject: ClusterSubject) -> Any:
    """Return the faults of the stand-in that a subject runs on."""
    assert subject.server.stand_in is not None
    return subject.server.stand_in.faults


def replica(number: int, **more: Any) -> EngineSpec:
    """Return a replica of a revision that others share."""
    return a_spec(f"chat-rev-1-{number}", **more).evolve(owner=REVISION)


def ready(subject: ClusterSubject, *ids: str) -> None:
    for name in ids:
        observe_until(subject, EngineId(name), EngineState.READY)
