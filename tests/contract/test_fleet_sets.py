"""Replicas larger than a node, on the stand-in: LeaderWorkerSets are an add-on that a plain server has not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.preflight import check_cluster
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import InvalidInput
from controlplane.reading.service_file import load_service
from tests.contract.fleet_on_cluster import ClusterSubject, cluster_options
from tests.contract.fleet_subjects import a_spec, observe_until
from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.kubelet import Kubelet
from tests.fakes.kubernetes.schemas import Object, resource_of

ONE, TWO = EngineId("chat-rev-1-1"), EngineId("chat-rev-1-2")
SETS = resource_of("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
PODS, SERVICES = resource_of("v1", "Pod"), resource_of("v1", "Service")
EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes.yaml"
GPUS_PER_NODE = 2


class SetSubject(ClusterSubject):
    """Nodes of two GPUs each, and engines of four."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.fleet.close()
        self.stand_in = server.stand_in
        assert self.stand_in is not None
        self.node.stop()
        self.small = [server.add_node(gpus=GPUS_PER_NODE) for _ in range(4)]
        self.fleet = self.another()

    def another(self) -> FleetKubernetes:
        options = cluster_options(self.server).evolve(gpus_per_node=GPUS_PER_NODE)
        return FleetKubernetes(
            open_door(self.server.kubeconfig()),
            namespace=self.server.namespace,
            options=lambda _: options,
            node_selector=options.node_selector,
        )

    def objects(self, resource: object) -> list[Object]:
        assert self.stand_in is not None
        return self.stand_in.objects.list(resource, self.server.namespace)  # type: ignore[arg-type]

    def node_of(self, pod: str) -> Kubelet:
        (found,) = [each for each in self.objects(PODS) if each["metadata"]["name"] == pod]
        return next(node for node in self.small if node.name == found["spec"]["nodeName"])


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SetSubject]:
    running = StandIn(tmp_path)
    made = SetSubject(Server(tmp_path, stand_in=running))
    yield made
    running.faults.clear()
    made.fleet.close()
    running.stop()


def large(engine_id: EngineId = ONE) -> EngineSpec:
    flags = {"max-model-len": 8192, "tensor-parallel-size": 4}
    spec = a_spec(engine_id, gpus=4).evolve(kind=EngineKind.VLLM, owner="rollout/chat/rev-1")
    return spec.evolve(config={"flags": flags})


def ready(own: SetSubject, *ids: EngineId) -> list[Engine]:
    for each in ids:
        own.fleet.start(large(each))
    return [observe_until(own, each, EngineState.READY) for each in ids]


def worker_of(engine: Engine) -> str:
    return f"{engine.pod}-1"


def test_an_engine_of_two_nodes_is_a_pod_on_each_and_its_leader_answers(own: SetSubject) -> None:
    (engine,) = ready(own, ONE)
    assert engine.pod == "set-chat-rev-1-1-0"
    pods = {pod["metadata"]["name"]: pod for pod in own.objects(PODS)}
    assert set(pods) == {engine.pod, worker_of(engine)}
    assert len({pod["spec"]["nodeName"] for pod in pods.values()}) == 2
    assert httpx.get(f"{engine.url}/health", trust_env=False, verify=False, timeout=240).is_success
    assert own.fleet.free_gpus() == 4
    (service,) = own.objects(SERVICES)
    labels = {name: pod["metadata"]["labels"].items() for name, pod in pods.items()}
    assert [name for name in pods if service["spec"]["selector"].items() <= labels[name]] == [engine.pod]


def test_each_engine_has_a_set_of_its_own_so_that_any_of_them_can_go(own: SetSubject) -> None:
    first, second = ready(own, ONE, TWO)
    own.fleet.stop(ONE, drain_s=0)
    observe_until(own, ONE, EngineState.STOPPED)
    assert own.fleet.observe(TWO).state is EngineState.READY
    assert {pod["metadata"]["name"] for pod in own.objects(PODS)} == {second.pod, worker_of(second)}
    own.fleet.forget(ONE)
    own.wait(lambda: [each["metadata"]["name"] for each in own.objects(SETS)] == ["set-chat-rev-1-2"])
    assert len(own.objects(SERVICES)) == 1  # of both
    own.fleet.stop(TWO, drain_s=0)
    observe_until(own, TWO, EngineState.STOPPED)
    own.fleet.forget(TWO)
    own.wait(lambda: not [*own.objects(SETS), *own.objects(SERVICES), *own.objects(PODS)])
    assert first.pod != second.pod


def test_a_stop_waits_for_the_stream_and_only_then_takes_the_workers(own: SetSubject) -> None:
    (engine,) = ready(own, ONE)
    text: list[str] = []
    asked = {"model": "m", "prompt": "a", "max_tokens": 60, "stream": True}
    url = f"{engine.url}/v1/completions"
    client = threading.Thread(
        target=lambda: text.append(httpx.post(url, json=asked, timeout=240, trust_env=False, verify=False).text),
        daemon=True,
    )
    client.start()
    own.wait(lambda: own.fleet.in_flight(ONE) == 1 or bool(text))  # or over before anybody counted
    own.fleet.stop(ONE, drain_s=120)
    observe_until(own, ONE, EngineState.STOPPED)
    client.join()
    assert text[0].endswith("data: [DONE]\n\n")
    assert own.objects(PODS) == []


def test_a_worker_that_dies_is_the_end_of_its_engine_and_all_of_it_goes(own: SetSubject) -> None:
    (engine,) = ready(own, ONE)
    own.node_of(worker_of(engine)).life(worker_of(engine)).kill(reason="OOMKilled")
    failed = observe_until(own, ONE, EngineState.FAILED)
    assert failed.failure in (StartFailure.OUT_OF_MEMORY, StartFailure.CRASHED)
    own.wait(lambda: not own.objects(PODS))
    assert own.fleet.free_gpus() == 8
    own.fleet.forget(ONE)
    own.wait(lambda: not own.objects(SETS))


def test_a_lost_node_of_a_worker_is_no_fault_of_the_engine(own: SetSubject) -> None:
    (engine,) = ready(own, ONE)
    assert own.stand_in is not None
    own.stand_in.lose_node(own.node_of(worker_of(engine)).name)
    failed = observe_until(own, ONE, EngineState.FAILED)
    assert failed.failure is StartFailure.NODE_LOST
    own.wait(lambda: not own.objects(PODS))


def test_a_part_that_finds_no_node_is_what_the_engine_waits_for(own: SetSubject) -> None:
    for node in own.small[1:]:
        assert own.stand_in is not None
        own.server.core.patch_node(node.name, {"spec": {"unschedulable": True}})
    own.fleet.close()
    own.fleet = own.another()
    with pytest.raises(Exception, match="GPUs for engine"):
        own.fleet.start(large())
    for node in own.small[1:]:
        own.server.core.patch_node(node.name, {"spec": {"unschedulable": False}})
    own.wait(lambda: own.fleet.free_gpus() == 8)
    (engine,) = ready(own, ONE)
    assert engine.waits_for is None


def test_a_fleet_that_just_began_knows_the_sets_there_are(own: SetSubject) -> None:
    (engine,) = ready(own, ONE)
    later = own.another()
    assert [each.pod for each in later.list()] == [engine.pod]
    later.close()


def test_without_the_add_on_it_is_named_with_what_needs_it(own: SetSubject) -> None:
    assert own.stand_in is not None
    own.stand_in.faults.uninstall("leaderworkerset.x-k8s.io")
    fresh = own.another()
    assert list(fresh.list()) == []
    with pytest.raises(InvalidInput, match="the cluster has no LeaderWorkerSet"):
        fresh.start(large())
    fresh.close()
    spec = load_service(EXAMPLE)
    options = cluster_options(own.server).evolve(gpus_per_node=GPUS_PER_NODE, env_from_secret="chat-env")
    described = spec.evolve(
        kubernetes=options, engine=spec.engine.evolve(flags={**spec.engine.flags, "tensor-parallel-size": 4})
    )
    with pytest.raises(InvalidInput, match="the cluster has no LeaderWorkerSet"):
        check_cluster(open_door(own.server.kubeconfig()), own.server.namespace, [described])
