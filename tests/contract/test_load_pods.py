"""Generators as pods of the stand-in: what goes wrong with them is told, and nothing of them is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.adapters.fleet_kubernetes.load_hosts import LoadHostsKubernetes
from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod
from controlplane.adapters.gateway.opener import GatewayProcesses
from controlplane.adapters.loadtester_locust import LoadTesterElsewhere
from controlplane.domain.errors import Unavailable
from controlplane.domain.report import Validity
from controlplane.ports.load import LoadProgress
from controlplane.settings import POD_VARIABLES, ClusterAccess, Settings
from controlplane.wiring.work import open_gateways, open_load_tester
from tests.contract.kubernetes_servers import wait
from tests.contract.load_pods import (
    HOST,
    NODE,
    POD,
    PODS,
    UntilHeldUp,
    generators,
    ground_truth,
    jobs,
    level,
    load_hosts,
    load_of_pods,
    worker_pod,
)
from tests.contract.test_gateway_opener import route
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.schemas import Object
from tests.integration.emulators import MODEL


@pytest.fixture
def own(tmp_path: Path) -> Iterator[StandIn]:
    running = StandIn(tmp_path)
    yield running
    running.stop()


def impatient(cluster: StandIn, worker: WorkerPod) -> LoadHostsKubernetes:
    """Give up as soon as the cluster has said what holds a generator up."""
    steady = UntilHeldUp(cluster)
    return load_hosts(cluster, worker, steady=steady, patience_s=steady.patience_s)


def nothing() -> None:
    """Nobody ends the wait."""


def test_a_node_that_is_not_there_is_named_as_what_is_short(own: StandIn) -> None:
    hosts = impatient(own, worker_pod(own, "w"))
    own.change_node(NODE, lambda node: {**node, "spec": {"unschedulable": True}})
    with pytest.raises(Unavailable, match=r"0 of 1 pods run within 1 s: no node takes it"):
        hosts.hold(1, port=24_001, check=nothing)
    hosts.release()
    assert jobs(own) == []


def test_nodes_with_gpus_are_no_place_for_generators(own: StandIn) -> None:
    hosts = impatient(own, worker_pod(own, "w"))
    own.change_node(NODE, lambda node: _labelled(node, {"nvidia.com/gpu.present": "true"}))
    with pytest.raises(Unavailable, match="no node has the labels"):
        hosts.hold(1, port=24_001, check=nothing)


@pytest.mark.parametrize("verb", ["create", "patch", "delete"])
def test_a_missing_right_is_named_and_says_nothing_of_the_engine(own: StandIn, verb: str) -> None:
    own.faults.forbid(verb, "jobs")
    hosts = load_hosts(own, worker_pod(own, "w"))
    with pytest.raises(Unavailable, match=f"a Role with verb {verb} on jobs"):
        hosts.hold(1, port=24_001, check=nothing)


def test_an_image_without_our_program_is_told_by_what_it_said(own: StandIn) -> None:
    hosts = impatient(own, worker_pod(own, "w"))
    own.nodes[NODE].missing_images.add("registry.example/fleetune/control:1")
    with pytest.raises(Unavailable, match="ImagePullBackOff"):
        hosts.hold(1, port=24_001, check=nothing)


def test_generators_go_with_the_pod_of_their_worker(own: StandIn) -> None:
    worker = worker_pod(own, "w")
    load_hosts(own, worker).hold(2, port=24_001, check=nothing)
    assert len(generators(own)) == 2
    own.objects.delete(POD, "default", worker.name, grace_s=0)
    wait(lambda: not jobs(own) and not generators(own))


def test_a_worker_that_comes_back_ends_what_it_left_behind(own: StandIn) -> None:
    worker = worker_pod(own, "w")
    load_hosts(own, worker).hold(1, port=24_001, check=nothing)
    load_hosts(own, worker).release()  # as its next process does first
    wait(lambda: not jobs(own) and not generators(own))


def test_a_worker_of_an_installation_with_load_pods_loads_from_them_once_the_last_ones_are_gone(
    own: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_pod(own, "w")
    load_hosts(own, worker).hold(1, port=24_001, check=nothing)
    for variable, value in zip(POD_VARIABLES, worker[:3], strict=True):
        monkeypatch.setenv(variable, value)
    cluster = ClusterAccess(namespace="default", kubeconfig=own.kubeconfig(), load_pods=PODS)
    tester = open_load_tester(Settings(data_dir=tmp_path, cluster=cluster))
    assert isinstance(tester, LoadTesterElsewhere)
    tester.close()
    assert jobs(own) == []


def test_a_gateway_before_a_fleet_is_loaded_by_pods_too(own: StandIn, tmp_path: Path) -> None:
    sending: list[int] = []

    def look(_: LoadProgress) -> None:
        sending.append(len(generators(own)))

    with (
        ground_truth(tmp_path) as engine,
        GatewayProcesses(host=HOST).open(route([engine]), folder=tmp_path / "gateway") as gateway,
        load_of_pods(own, "w", processes=2) as tester,
    ):
        # So long that a gateway which has just started, on a busy machine, has answered some of it before its end.
        asked = level(gateway.url, seconds=6, model=MODEL, api_key=gateway.api_key)
        report = tester.run(asked, out_dir=tmp_path / "a", watch=look).report
    assert (report.errors, report.completed) == (0, report.requests)
    assert (report.requests > 0, max(sending)) == (True, 2)
    assert jobs(own) == []


def test_the_gateways_of_an_installation_with_load_pods_are_where_its_pods_find_them(
    own: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in zip(POD_VARIABLES, ("w", "u", HOST), strict=True):
        monkeypatch.setenv(variable, value)
    cluster = ClusterAccess(namespace="default", kubeconfig=own.kubeconfig(), load_pods=PODS)
    for given, host in ((cluster, HOST), (cluster.evolve(load_pods=None), "127.0.0.1")):
        gateways = open_gateways(Settings(data_dir=tmp_path, cluster=given))
        with gateways.open(route([]), folder=tmp_path / host) as (url, _):
            assert url.startswith(f"http://{host}:")


def test_a_lost_node_spoils_its_level_breaks_the_next_and_is_made_up_for_by_another(
    own: StandIn, tmp_path: Path
) -> None:
    def lose(progress: LoadProgress) -> str | None:
        if progress.sent > 5 and not own.nodes[NODE].is_lost:
            own.lose_node(NODE)
        return None

    steady = UntilHeldUp(own)
    given = {"steady": steady, "patience_s": steady.patience_s}
    with ground_truth(tmp_path) as url, load_of_pods(own, "w", processes=2, **given) as tester:
        spoilt = tester.run(level(url, seconds=60), out_dir=tmp_path / "a", watch=lose).report
        assert (spoilt.validity, "was lost" in str(spoilt.invalid_reason)) == (Validity.INVALID, True)
        with pytest.raises(Unavailable, match="0 of 2 pods run within 1 s: no node takes it"):
            tester.run(level(url), out_dir=tmp_path / "b")
        assert jobs(own) == []
        own.add_node("another", gpus=0)
        assert tester.run(level(url), out_dir=tmp_path / "c").report.errors == 0
    assert jobs(own) == []


def _labelled(node: Object, labels: dict[str, str]) -> Object:
    metadata = node["metadata"]
    return {**node, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **labels}}}
