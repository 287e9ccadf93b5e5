"""The rights that a fleet on a cluster is given are exactly those it uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.lease import LeaseElection
from controlplane.adapters.fleet_kubernetes.load_hosts import LoadHostsKubernetes
from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod
from controlplane.adapters.fleet_kubernetes.preflight import check_cluster
from controlplane.adapters.fleet_kubernetes.rights import DONE_WITHOUT, ENGINES, IN_PODS, POOLS, ROUTES, SETS
from controlplane.adapters.fleet_kubernetes.routes import RouteTraffic
from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.cluster import PickerOptions
from controlplane.domain.door.routing import RevisionRoute, RoutingTable, ServiceRoute
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.errors import Forbidden, Unavailable
from controlplane.domain.load_pods import LoadPods
from controlplane.reading.service_file import load_service
from tests.contract.fleet_on_cluster import ClusterSubject, cluster_options
from tests.contract.fleet_subjects import a_spec, observe_until
from tests.contract.kubernetes_servers import Server
from tests.contract.routes import ROUTE
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.faults import Call
from tests.fakes.kubernetes.schemas import resource_of
from tests.fakes.kubernetes.writes import Writer

ROOT = Path(__file__).parents[2]
RIGHTS = ROOT / "deploy" / "kubernetes" / "rights.yaml"
EXAMPLE = ROOT / "examples" / "kubernetes.yaml"

STRICT = Writer(manager="kubectl", strict=True)

Right = tuple[str, str, str]
"""Verb, API group, resource with its subresource."""


def _roles(*kinds: str) -> list[Any]:
    return [each for each in yaml.safe_load_all(RIGHTS.read_text()) if each["kind"] in kinds]


def granted() -> set[Right]:
    return {right for role in _roles("Role", "ClusterRole") for rule in role["rules"] for right in _rights(rule)}


def _rights(rule: dict[str, Any]) -> Iterable[Right]:
    return ((v, g, r) for v in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"])


def used(calls: Iterable[Call]) -> set[Right]:
    def named(call: Call) -> str:
        return f"{call.resource}/{call.subresource}" if call.subresource else call.resource

    return {(call.verb, call.group, named(call)) for call in calls}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    running = StandIn(tmp_path)
    yield Server(tmp_path, stand_in=running)
    running.stop()


def test_a_life_of_a_fleet_uses_every_right_it_is_given_and_no_other(own: Server) -> None:
    subject = ClusterSubject(own)
    assert own.stand_in is not None
    spec = load_service(EXAMPLE)
    described = spec.evolve(kubernetes=cluster_options(own).evolve(env_from_secret="chat-env", route=ROUTE))
    check_cluster(open_door(own.kubeconfig()), own.namespace, [described])
    _live(subject)
    _lead(own)
    _route(own)
    _load(own)
    subject.close()
    # Nodes and tests speak as themselves: what Fleetune asks is told apart by who asks.
    assert used(call for call in own.stand_in.faults.calls if call.agent == "fleetune") == granted()


def test_what_is_asked_beforehand_is_what_is_granted() -> None:
    """Rights that nothing can do without, those that something can, and those that only pods of the chart use."""
    asked = (*ENGINES, *SETS, *ROUTES, *POOLS, *DONE_WITHOUT, *IN_PODS)
    assert {each[:3] for each in asked} == granted()
    assert len(set(asked)) == len(asked)
    in_cluster = {r for role in _roles("ClusterRole") for rule in role["rules"] for r in rule["resources"]}
    assert {each.resource for each in asked if not each.namespaced} == in_cluster


@pytest.mark.parametrize(
    ("verb", "resource", "named"),
    [
        ("watch", "pods", "verb watch on pods"),
        ("delete", "deployments", "verb delete on deployments"),
        ("delete", "leaderworkersets", ""),
        ("watch", "endpointslices", "verb watch on endpointslices"),
    ],
)
def test_a_right_that_is_used_later_is_missed_beforehand(own: Server, verb: str, resource: str, named: str) -> None:
    """Of add-ons only those are asked about that a service uses."""
    subject = ClusterSubject(own)  # there are nodes
    spec = load_service(EXAMPLE)
    described = spec.evolve(kubernetes=cluster_options(own).evolve(env_from_secret="chat-env", route=ROUTE))
    assert own.stand_in is not None
    own.stand_in.faults.forbid(verb, resource)
    if not named:
        check_cluster(open_door(own.kubeconfig()), own.namespace, [described])
        subject.close()
        return
    with pytest.raises(Forbidden, match=rf"1 of \d+ rights are missing \(allowed: a Role with {named}: deploy/"):
        check_cluster(open_door(own.kubeconfig()), own.namespace, [described])
    subject.close()


def test_all_that_is_missing_is_one_message(own: Server) -> None:
    assert own.stand_in is not None
    for verb, resource in (("watch", "nodes"), ("delete", "services"), ("delete", "pods")):
        own.stand_in.faults.forbid(verb, resource)
    with pytest.raises(Forbidden, match="verb delete on pods, verb delete on services, verb watch on nodes"):
        check_cluster(open_door(own.kubeconfig()), own.namespace, [])


def _live(subject: ClusterSubject) -> None:
    subject.fleet.start(a_spec("chat-1").evolve(owner="rollout/chat/rev-1"))
    observe_until(subject, EngineId("chat-1"), EngineState.READY)
    subject.crash(EngineId("chat-1"))
    observe_until(subject, EngineId("chat-1"), EngineState.FAILED)
    subject.fleet.forget(EngineId("chat-1"))
    _live_on_two_nodes(subject)


def _live_on_two_nodes(subject: ClusterSubject) -> None:
    options = cluster_options(subject.server).evolve(gpus_per_node=2)
    fleet = FleetKubernetes(
        open_door(subject.server.kubeconfig()), namespace=subject.server.namespace, options=lambda _: options
    )
    flags = {"max-model-len": 8192, "tensor-parallel-size": 4}
    fleet.start(a_spec("chat-2", gpus=4).evolve(kind="vllm", config={"flags": flags}))
    subject.wait(lambda: [each.state for each in fleet.list()] == [EngineState.READY])
    fleet.stop(EngineId("chat-2"), drain_s=0)
    subject.wait(lambda: [each.state for each in fleet.list()] == [EngineState.STOPPED])
    fleet.forget(EngineId("chat-2"))
    fleet.close()


def _lead(server: Server) -> None:
    lease = LeaseElection(
        open_door(server.kubeconfig()),
        namespace=server.namespace,
        name="fleetune-controller",
        identity="a",
        on_end=lambda _: None,
    )
    lease.step()
    lease.step()


def _route(server: Server) -> None:
    picked = ROUTE.evolve(picker=PickerOptions(service="picker"))
    router = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=lambda _: picked, settle_s=0)
    revision = RevisionRoute(revision=RevisionId("rev-1"), weight_percent=100)
    with suppress(Unavailable):  # no gateway is there
        router.apply(
            RoutingTable(version=1, services=(ServiceRoute(service="chat", model="m", revisions=(revision,)),))
        )
    router.apply(RoutingTable(version=2))
    router.close()


def _load(server: Server) -> None:
    """Every right on Jobs and pods that generators need, whether or not one comes up."""
    worker = WorkerPod("worker-0", "uid-0", "127.0.0.1", server.namespace)
    hosts = LoadHostsKubernetes(open_door(server.kubeconfig()), worker, LoadPods(image="control"), patience_s=0)
    with suppress(Unavailable):
        hosts.hold(1, port=5557, check=lambda: None)
    hosts.release()


def test_the_rights_are_valid_objects_that_a_server_takes(own: Server) -> None:
    assert own.stand_in is not None
    for value in yaml.safe_load_all(RIGHTS.read_text()):
        resource = resource_of(value["apiVersion"], value["kind"])
        made = own.stand_in.objects.create(resource, own.namespace if resource.namespaced else "", value, STRICT)
        assert made["metadata"]["uid"]
