"""Replicas on spot nodes of a cluster: a Deployment of their own, one Service with the others, and their node's end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.names import GROUP
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import SpotNodes
from controlplane.domain.engines.fleet import EngineState
from tests.contract.fleet_on_cluster import ClusterSubject, a_cluster_of_its_own, cluster_fleet, replica
from tests.contract.fleet_subjects import observe_until

LABEL = "karpenter.sh/capacity-type"


class SpotSubject:
    """A cluster with a node on demand (4 GPUs) and a spot node (2 GPUs)."""

    def __init__(self, own: ClusterSubject) -> None:
        self.own, self.server = own, own.server
        labels = {"fleetune.dev/test": self.server.namespace, LABEL: "spot"}
        assert self.server.stand_in is not None
        self.cluster = self.server.stand_in
        self.cluster.add_node("spot-1", gpus=2, labels=labels)
        self.fleet: FleetKubernetes = cluster_fleet(self.server, spot=SpotNodes(node_selector=labels))
        own.fleet.close()
        own.fleet = self.fleet
        own.wait(lambda: self.fleet.free_gpus() == 6)

    def deployment(self, name: str) -> Any:
        return self.server.apps.read_namespaced_deployment(name, self.server.namespace)


@pytest.fixture
def spot(tmp_path: Path) -> Iterator[SpotSubject]:
    with a_cluster_of_its_own(tmp_path) as own:
        yield SpotSubject(own)


def test_spot_replicas_have_nodes_and_a_deployment_of_their_own_and_share_the_service(spot: SpotSubject) -> None:
    assert (spot.fleet.free_gpus(spot=False), spot.fleet.free_gpus(spot=True)) == (4, 2)
    spot.fleet.start(replica(1))
    spot.fleet.start(replica(2).evolve(spot=True))
    on_demand = observe_until(spot.own, EngineId("chat-rev-1-1"), EngineState.READY)
    taken = observe_until(spot.own, EngineId("chat-rev-1-2"), EngineState.READY)
    assert taken.node == "spot-1"
    assert (on_demand.spec.spot, taken.spec.spot) == (False, True)
    assert [spot.deployment(name).spec.replicas for name in ("chat-rev-1", "chat-rev-1-spot")] == [1, 1]
    service = spot.server.core.read_namespaced_service("chat-rev-1", spot.server.namespace)
    assert service.spec is not None
    assert GROUP not in (service.spec.selector or {}), "it is that of both"
    assert spot.fleet.free_gpus(spot=True) == 1


def test_a_node_that_is_taken_back_has_no_free_gpu_and_its_replica_drains_alone(spot: SpotSubject) -> None:
    spot.fleet.start(replica(1))
    spot.fleet.start(replica(2).evolve(spot=True))
    observe_until(spot.own, EngineId("chat-rev-1-2"), EngineState.READY)
    taint = {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}
    spot.cluster.change_node("spot-1", lambda node: {**node, "spec": {**node["spec"], "taints": [taint]}})
    spot.own.wait(lambda: spot.fleet.free_gpus(spot=True) == 0)
    spot.fleet.stop(EngineId("chat-rev-1-2"), drain_s=30)
    observe_until(spot.own, EngineId("chat-rev-1-2"), EngineState.STOPPED)
    observe_until(spot.own, EngineId("chat-rev-1-1"), EngineState.READY)
