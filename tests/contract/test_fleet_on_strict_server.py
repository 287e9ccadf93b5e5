"""What the fleet makes of what a real server does: objects half gone, policies, nodes that vanish, expired answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.door import Door, Place, open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.hangup import Hangup
from controlplane.adapters.fleet_kubernetes.manifests import same_deployment
from controlplane.adapters.fleet_kubernetes.preflight import check_cluster
from controlplane.adapters.fleet_kubernetes.refusals import Expired
from controlplane.adapters.fleet_kubernetes.retries import ATTEMPTS
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Forbidden, InvalidInput, StaleVersion, Unavailable
from controlplane.reading.service_file import load_service
from tests.contract.fleet_on_cluster import ClusterSubject, a_cluster_of_its_own, cluster_options, replica
from tests.contract.fleet_subjects import a_spec, observe_until
from tests.contract.kubernetes_servers import Server, wait
from tests.contract.test_kubernetes_server import MERGE
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.schemas import Object, resource_of

ID = EngineId("e-1")
EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes.yaml"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ClusterSubject]:
    with a_cluster_of_its_own(tmp_path) as made:
        yield made


def stand_in(subject: ClusterSubject) -> StandIn:
    assert subject.server.stand_in is not None
    return subject.server.stand_in


def door(server: Server) -> Door:
    return open_door(server.kubeconfig())


def deployments(server: Server) -> Place:
    return Place("apis/apps/v1", "deployments", server.namespace)


def test_a_deployment_that_somebody_deletes_takes_no_new_engine(own: ClusterSubject) -> None:
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)
    stand_in(own).garbage.is_asleep = True
    name = "trial-test-1"
    own.server.apps.delete_namespaced_deployment(name, own.server.namespace, propagation_policy="Foreground")
    with pytest.raises(Unavailable, match="somebody is deleting it"):
        own.fleet.start(a_spec("e-2"))
    stand_in(own).garbage.is_asleep = False


def test_pods_that_outlive_their_deployment_are_no_engines_of_the_next(own: ClusterSubject) -> None:
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)
    old = own.fleet.observe(ID).pod
    stand_in(own).garbage.is_asleep = True
    own.server.apps.delete_namespaced_deployment("trial-test-1", own.server.namespace)
    own.wait(lambda: not own.fleet.list())
    _later_second(own)
    own.fleet.start(a_spec("e-2"))
    new = observe_until(own, EngineId("e-2"), EngineState.READY)
    assert new.pod != old
    stand_in(own).garbage.is_asleep = False
    own.wait(lambda: str(old) not in _pods(own))
    assert own.fleet.observe(EngineId("e-2")).state is EngineState.READY


def _later_second(own: ClusterSubject) -> None:
    """Times of objects are of whole seconds: wait for the next one by what the server itself writes."""

    def second(name: str) -> str:
        made = own.server.core.create_namespaced_config_map(
            own.server.namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name=name))
        )
        assert made.metadata is not None
        return str(made.metadata.creation_timestamp)

    now = second("first-")
    own.wait(lambda: second("next-") != now)


def _pods(own: ClusterSubject) -> set[str | None]:
    found = own.server.core.list_namespaced_pod(own.server.namespace).items
    return {each.metadata.name for each in found if each.metadata is not None}


def test_a_deployment_deleted_while_its_ledger_is_written_is_not_made_again(own: ClusterSubject) -> None:
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)
    at, ours = deployments(own.server), door(own.server)
    live = ours.get(at, "trial-test-1")
    assert live is not None
    own.server.apps.delete_namespaced_deployment("trial-test-1", own.server.namespace)
    with pytest.raises(StaleVersion):
        ours.apply(at, same_deployment(live, replicas=1, annotations=live["metadata"]["annotations"]))
    own.wait(lambda: not own.fleet.list())
    assert own.server.apps.list_namespaced_deployment(own.server.namespace).items == []


def test_an_engine_whose_node_was_deleted_failed_by_no_fault_of_its_own(own: ClusterSubject) -> None:
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)
    own.server.add_node(gpus=1)
    stand_in(own).remove_node(own.node.name)
    own.wait(lambda: not [pod for pod in _pods(own) if pod == own.fleet.list()[0].pod])
    failed = observe_until(own, ID, EngineState.FAILED)
    assert failed.failure is StartFailure.NODE_LOST
    assert own.node.name in str(failed.failure_detail) or "DeletionByPodGC" in str(failed.failure_detail)


def test_a_policy_that_denies_is_no_missing_right(own: ClusterSubject) -> None:
    own.fleet.list()
    stand_in(own).objects.denials["Deployment"] = 'ValidatingAdmissionPolicy "no-gpus" denied request: not here'
    with pytest.raises(InvalidInput, match=r"no-gpus.*what the policies of the cluster admit"):
        own.fleet.start(a_spec())
    assert list(own.fleet.list()) == []


def test_a_policy_that_denies_pods_is_what_an_engine_waits_for(own: ClusterSubject) -> None:
    stand_in(own).objects.denials["Pod"] = 'violates PodSecurity "restricted:latest": privileged'
    own.fleet.start(a_spec())
    own.wait_until_it_waits_for("violates PodSecurity")
    stand_in(own).objects.denials.clear()
    observe_until(own, ID, EngineState.READY)


def test_a_priority_class_that_is_not_there_is_what_an_engine_waits_for(own: ClusterSubject) -> None:
    options = cluster_options(own.server).evolve(trial_priority_class="no-such-class")
    own.fleet.close()
    own.fleet = FleetKubernetes(door(own.server), namespace=own.server.namespace, options=lambda _: options)
    own.fleet.start(a_spec())
    own.wait_until_it_waits_for("no PriorityClass with name no-such-class")


def test_a_namespace_that_is_being_deleted_is_named_before_and_after_a_start(own: ClusterSubject) -> None:
    own.fleet.list()
    hold = {"metadata": {"finalizers": ["fleetune.dev/hold"]}}
    own.server.core.patch_namespace(own.server.namespace, hold, _content_type=MERGE)
    own.server.core.delete_namespace(own.server.namespace)
    with pytest.raises(Unavailable, match="a namespace that is not being deleted"):
        own.fleet.start(a_spec())
    with pytest.raises(Unavailable, match="is being deleted"):
        check_cluster(door(own.server), own.server.namespace, [])


def test_a_namespace_that_is_gone_is_named_with_what_makes_it(own: ClusterSubject) -> None:
    own.fleet.list()
    own.server.core.delete_namespace(own.server.namespace)
    wait(lambda: stand_in(own).objects.list(resource_of("v1", "Namespace"))[-1]["metadata"]["name"] == "default")
    with pytest.raises(Unavailable, match=f"kubectl create namespace {own.server.namespace}"):
        own.fleet.start(a_spec())


def test_a_deployment_whose_deletion_is_overtaken_each_time_keeps_its_service_until_it_goes(
    own: ClusterSubject,
) -> None:
    """Whoever starts an engine in it meanwhile does not make the Service again."""
    one, core = EngineId("chat-rev-1-1"), own.server.core
    own.fleet.start(replica(1))
    own.fleet.stop(one, drain_s=0)
    observe_until(own, one, EngineState.STOPPED)
    stand_in(own).faults.answer_next(*[409] * ATTEMPTS, agent="fleetune", verb="delete")
    own.fleet.forget(one)
    assert own.server.apps.read_namespaced_deployment("chat-rev-1", own.server.namespace).spec is not None
    assert core.read_namespaced_service("chat-rev-1", own.server.namespace).spec is not None
    own.wait(lambda: not own.fleet.list() and not core.list_namespaced_service(own.server.namespace).items)
    assert own.server.apps.list_namespaced_deployment(own.server.namespace).items == []


def test_who_overtakes_every_attempt_to_write_is_named(own: ClusterSubject) -> None:
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)
    stand_in(own).faults.answer_next(*[409] * ATTEMPTS, agent="fleetune", verb="patch")
    with pytest.raises(Unavailable, match=r"kube-controller-manager \(its status\) wrote to it before each of"):
        own.fleet.stop(ID, drain_s=0)
    assert own.fleet.stop(ID, drain_s=0).state in (EngineState.DRAINING, EngineState.STOPPED)


def test_a_webhook_that_cannot_be_tried_keeps_no_installation_from_starting(own: ClusterSubject) -> None:
    spec = load_service(EXAMPLE)
    described = spec.evolve(kubernetes=cluster_options(own.server).evolve(env_from_secret="chat-env"))
    stand_in(own).faults.no_dry_run.add("Deployment")
    check_cluster(door(own.server), own.server.namespace, [described])
    stand_in(own).objects.denials["Deployment"] = 'admission webhook "w.example.com" denied the request: not here'
    stand_in(own).faults.no_dry_run.clear()
    with pytest.raises(InvalidInput, match="denied the request"):
        check_cluster(door(own.server), own.server.namespace, [described])


def test_flags_reach_an_engine_as_they_were_written(own: ClusterSubject) -> None:
    """A cluster would put a variable in place of the first, and leave one sign of the second."""
    written = "$(HOME) $$ $"
    own.fleet.start(a_spec(emulator_gpu=written))
    ready = observe_until(own, ID, EngineState.READY)
    process = own.node.life(str(ready.pod)).process
    assert process is not None
    given = process.args
    assert isinstance(given, list)
    assert f"--emulator-gpu={written}" in given


def test_a_missing_right_is_told_from_what_the_server_says(own: ClusterSubject) -> None:
    own.fleet.list()
    stand_in(own).faults.forbid("patch", "deployments")
    with pytest.raises(Forbidden, match="a Role with verb patch on deployments"):
        own.fleet.start(a_spec())


def test_a_server_that_asks_for_long_to_be_left_alone_is_not_asked_until_then(own: ClusterSubject) -> None:
    now_s, faults = [0.0], stand_in(own).faults
    settings = client.Configuration(host=stand_in(own).url)
    settings.retries = urllib3.Retry(total=1, respect_retry_after_header=False)  # as `open_door` has it
    ours, at = Door(client.ApiClient(settings), steady=lambda: now_s[0]), deployments(own.server)
    faults.retry_after_s = 9
    faults.answer_next(429, agent="fleetune", verb="list")
    with pytest.raises(Unavailable, match="Too many requests"):
        ours.list(at)
    calls = len([call for call in faults.calls if call.agent == "fleetune" and call.verb == "list"])
    now_s[0] = 8.0
    with pytest.raises(Unavailable, match="left alone for 1 s more"):
        ours.list(at)
    assert len([call for call in faults.calls if call.agent == "fleetune" and call.verb == "list"]) == calls
    now_s[0] = 9.0
    assert ours.list(at)["items"] == []


def test_a_watch_that_is_refused_as_too_old_is_begun_anew(own: ClusterSubject) -> None:
    stand_in(own).faults.answer_next(410, agent="fleetune", verb="watch")
    with pytest.raises(Expired):
        list(door(own.server).watch(deployments(own.server), "1", seconds=1, hangup=Hangup()))


def test_a_list_whose_pages_expire_is_asked_for_whole(own: ClusterSubject) -> None:
    for number in range(3):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"c-{number}"))
        own.server.core.create_namespaced_config_map(own.server.namespace, body)
    at, ours = Place("api/v1", "configmaps", own.server.namespace), SmallPages(own)
    names = {each["metadata"]["name"] for each in ours.list(at)["items"]}
    assert {f"c-{number}" for number in range(3)} <= names  # beside what the cluster put there itself
    assert ours.asked == ["first", "next", "whole"]


class SmallPages(Door):
    """Asks for one object a page, and lets the server forget between the first page and the second."""

    def __init__(self, subject: ClusterSubject) -> None:
        super().__init__(subject.server.api)
        self._subject = subject
        self.asked: list[str] = []

    def _asked(self, method: str, place: Place, *words: Any, **more: Any) -> Object:
        query = dict(more.pop("query", {}))
        paged = {**query, "limit": "1"} if "limit" in query else query
        self.asked.append("next" if "continue" in query else "first" if "limit" in query else "whole")
        if "continue" in query:
            stand_in(self._subject).objects.compact()
        return super()._asked(method, place, *words, query=paged, **more)
