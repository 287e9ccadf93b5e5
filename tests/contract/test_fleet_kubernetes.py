"""What only a fleet on a cluster does: what others change, what the cluster takes away, and what it cannot give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.ledger import LEDGER
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Conflict
from tests.contract.fleet_on_cluster import (
    IMAGE,
    ClusterSubject,
    a_cluster_of_its_own,
    cluster_fleet,
    cluster_options,
    ready,
    replica,
)
from tests.contract.fleet_subjects import a_spec, observe_until
from tests.contract.kubernetes_servers import Server

ID = EngineId("e-1")
MERGE = "application/merge-patch+json"


@pytest.fixture
def subject(server: Server) -> Iterator[ClusterSubject]:
    made = ClusterSubject(server)
    yield made
    made.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ClusterSubject]:
    with a_cluster_of_its_own(tmp_path) as made:
        yield made


def test_replicas_of_a_revision_share_a_deployment_a_service_and_a_budget(subject: ClusterSubject) -> None:
    for number in (1, 2):
        subject.fleet.start(replica(number))
    ready(subject, "chat-rev-1-1", "chat-rev-1-2")
    server = subject.server
    (found,) = server.apps.list_namespaced_deployment(server.namespace).items
    assert found.spec is not None
    assert (found.metadata and found.metadata.name, found.spec.replicas) == ("chat-rev-1", 2)
    assert server.core.read_namespaced_service("chat-rev-1", server.namespace).spec is not None
    budgets = client.PolicyV1Api(server.api)
    assert budgets.read_namespaced_pod_disruption_budget("chat-rev-1", server.namespace).spec is not None
    pods = {engine.pod for engine in subject.fleet.list()}
    assert len(pods) == 2
    assert all(engine.node == subject.node.name for engine in subject.fleet.list())


def test_a_namespace_that_admits_restricted_pods_alone_admits_engines(subject: ClusterSubject) -> None:
    server = subject.server
    enforced = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    server.core.patch_namespace(server.namespace, enforced, _content_type=MERGE)
    pod = {"metadata": {"name": "stranger"}, "spec": {"containers": [{"name": "it", "image": "it"}]}}

    def is_refused() -> bool:  # its admission hears of the label a moment later
        code, said = server.post(f"/api/v1/namespaces/{server.namespace}/pods", pod, dryRun="All")
        return (code, "violates PodSecurity" in said) == (403, True)

    subject.wait(is_refused)
    subject.fleet.start(replica(1))
    ready(subject, "chat-rev-1-1")


def test_what_is_forgotten_leaves_nothing_on_the_cluster(subject: ClusterSubject) -> None:
    subject.fleet.start(replica(1))
    subject.fleet.stop(EngineId("chat-rev-1-1"), drain_s=0)
    observe_until(subject, EngineId("chat-rev-1-1"), EngineState.STOPPED)
    subject.fleet.forget(EngineId("chat-rev-1-1"))
    server = subject.server
    subject.wait(lambda: not server.apps.list_namespaced_deployment(server.namespace).items)
    assert server.core.list_namespaced_service(server.namespace).items == []
    assert list(subject.fleet.list()) == []


def test_what_somebody_forgot_halfway_is_removed_at_the_next_look(subject: ClusterSubject) -> None:
    """Killed between two calls: the ledger is empty already, the Deployment, its Service and its budget still there."""
    subject.fleet.start(replica(1))
    subject.fleet.stop(EngineId("chat-rev-1-1"), drain_s=0)
    observe_until(subject, EngineId("chat-rev-1-1"), EngineState.STOPPED)
    server = subject.server
    emptied = {"metadata": {"annotations": {LEDGER: "{}"}}}
    server.apps.patch_namespaced_deployment("chat-rev-1", server.namespace, emptied, _content_type=MERGE)
    subject.wait(lambda: not list(subject.fleet.list()))
    subject.wait(lambda: not server.apps.list_namespaced_deployment(server.namespace).items)
    assert server.core.list_namespaced_service(server.namespace).items == []


def test_the_engine_that_is_stopped_is_the_one_that_goes(subject: ClusterSubject) -> None:
    for number in (1, 2, 3):
        subject.fleet.start(replica(number))
    ready(subject, "chat-rev-1-1", "chat-rev-1-2", "chat-rev-1-3")
    before = {engine.spec.engine_id: engine.pod for engine in subject.fleet.list()}
    subject.fleet.stop(EngineId("chat-rev-1-2"), drain_s=0)
    observe_until(subject, EngineId("chat-rev-1-2"), EngineState.STOPPED)
    left = {e.spec.engine_id: e.pod for e in subject.fleet.list() if e.state is EngineState.READY}
    assert left == {name: before[name] for name in left}
    assert len(left) == 2


def test_a_pod_template_never_changes_whatever_starts_and_stops(subject: ClusterSubject) -> None:
    subject.fleet.start(replica(1))
    ready(subject, "chat-rev-1-1")
    subject.fleet.start(replica(2))
    ready(subject, "chat-rev-1-2")
    subject.fleet.stop(EngineId("chat-rev-1-1"), drain_s=0)
    observe_until(subject, EngineId("chat-rev-1-1"), EngineState.STOPPED)
    server = subject.server
    assert len(server.apps.list_namespaced_replica_set(server.namespace).items) == 1


def test_a_start_that_takes_longer_than_was_measured_is_given_up_before_the_declared_time_out(
    subject: ClusterSubject,
) -> None:
    subject.fleet.start(replica(1, emulator_startup_s=600).evolve(start_budget_s=1))
    found = observe_until(subject, EngineId("chat-rev-1-1"), EngineState.FAILED)
    assert (found.failure, found.failure_detail) == (StartFailure.TIMEOUT, "not ready within 1 s")


def test_another_description_of_the_cluster_replaces_no_running_pod(subject: ClusterSubject) -> None:
    subject.fleet.start(replica(1))
    ready(subject, "chat-rev-1-1")
    before = subject.fleet.observe(EngineId("chat-rev-1-1")).pod
    server = subject.server
    other = cluster_options(server).evolve(drain_s=7, shared_memory_gib=3)
    later = FleetKubernetes(open_door(server.kubeconfig()), namespace=server.namespace, options=lambda _: other)
    later.start(replica(2))
    ready(subject, "chat-rev-1-2")
    assert subject.fleet.observe(EngineId("chat-rev-1-1")).pod == before
    assert len(server.apps.list_namespaced_replica_set(server.namespace).items) == 1
    later.close()


def test_two_fleets_on_one_namespace_see_and_move_the_same_engines(subject: ClusterSubject) -> None:
    subject.fleet.start(replica(1))
    other = cluster_fleet(subject.server)
    ready(subject, "chat-rev-1-1")
    subject.wait(lambda: [engine.state for engine in other.list()] == [EngineState.READY])
    other.start(replica(2))
    subject.wait(lambda: len(subject.fleet.list()) == 2)
    other.stop(EngineId("chat-rev-1-1"), drain_s=0)
    observe_until(subject, EngineId("chat-rev-1-1"), EngineState.STOPPED)
    other.close()


def test_who_else_sets_the_replicas_is_named_and_keeps_them(subject: ClusterSubject) -> None:
    subject.fleet.start(replica(1))
    ready(subject, "chat-rev-1-1")
    server = subject.server
    server.apps.patch_namespaced_deployment_scale(
        "chat-rev-1", server.namespace, {"spec": {"replicas": 3}}, field_manager="autoscaler", _content_type=MERGE
    )
    with pytest.raises(Conflict, match=r"\.spec\.replicas is set by autoscaler"):
        subject.fleet.start(replica(2))
    found = server.apps.read_namespaced_deployment("chat-rev-1", server.namespace)
    assert found.spec is not None
    assert found.spec.replicas == 3
    (engine,) = subject.fleet.list()
    assert engine.state is EngineState.READY
    server.apps.delete_namespaced_deployment("chat-rev-1", server.namespace)
    subject.wait(lambda: not subject.fleet.list())


@pytest.mark.engines
def test_what_somebody_else_changes_holds_up_no_other_revision(subject: ClusterSubject) -> None:
    subject.fleet.start(replica(1))
    subject.fleet.start(a_spec())
    ready(subject, "chat-rev-1-1", "e-1")
    server = subject.server
    server.apps.patch_namespaced_deployment_scale(
        "chat-rev-1", server.namespace, {"spec": {"replicas": 2}}, field_manager="autoscaler", _content_type=MERGE
    )
    subject.crash(EngineId("chat-rev-1-1"))
    subject.wait(lambda: any("set by autoscaler" in str(engine.waits_for) for engine in subject.fleet.list()))
    subject.crash(ID)
    observe_until(subject, ID, EngineState.FAILED)
    server.apps.delete_namespaced_deployment("chat-rev-1", server.namespace)


def test_a_pod_that_somebody_deletes_is_an_engine_that_crashed(subject: ClusterSubject) -> None:
    subject.fleet.start(replica(1))
    ready(subject, "chat-rev-1-1")
    pod = subject.fleet.observe(EngineId("chat-rev-1-1")).pod
    subject.server.core.delete_namespaced_pod(str(pod), subject.server.namespace, grace_period_seconds=1)
    failed = observe_until(subject, EngineId("chat-rev-1-1"), EngineState.FAILED)
    assert failed.failure is StartFailure.CRASHED
    assert str(pod) in str(failed.failure_detail)


@pytest.mark.engines
def test_a_container_killed_for_memory_says_so(subject: ClusterSubject) -> None:
    subject.fleet.start(a_spec())
    observe_until(subject, ID, EngineState.READY)
    subject.node.life(str(subject.fleet.observe(ID).pod)).kill(reason="OOMKilled")
    failed = observe_until(subject, ID, EngineState.FAILED)
    assert failed.failure is StartFailure.OUT_OF_MEMORY
    assert "host memory" in str(failed.failure_detail)


def test_a_missing_gpu_shows_while_it_is_waited_for_and_is_named_in_the_end(own: ClusterSubject) -> None:
    stranger = {"metadata": {"name": "stranger"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    stranger["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "4"}}  # type: ignore[index]
    stranger["spec"]["tolerations"] = [{"operator": "Exists"}]  # type: ignore[index]
    code, said = own.server.post(f"/api/v1/namespaces/{own.server.namespace}/pods", stranger)
    assert code == 201, said

    def is_placed() -> bool:
        spec = own.server.core.read_namespaced_pod("stranger", own.server.namespace).spec
        return spec is not None and spec.node_name is not None

    own.wait(is_placed)
    own.fleet.start(a_spec())
    own.wait_until_it_waits_for("not enough nvidia.com/gpu")
    own.let_pass(600)
    failed = observe_until(own, ID, EngineState.FAILED)
    assert failed.failure is StartFailure.UNSCHEDULABLE
    assert "not enough nvidia.com/gpu" in str(failed.failure_detail)


def test_an_image_that_cannot_be_pulled_is_named(own: ClusterSubject) -> None:
    own.node.missing_images.add(IMAGE)
    own.fleet.start(a_spec())
    own.wait_until_it_waits_for("ImagePullBackOff")
    own.let_pass(180)
    failed = observe_until(own, ID, EngineState.FAILED)
    assert failed.failure is StartFailure.IMAGE_PULL
    assert "ImagePullBackOff" in str(failed.failure_detail)


def test_a_quota_that_is_used_up_is_named(own: ClusterSubject) -> None:
    hard = {"requests.nvidia.com/gpu": "0"}
    quota = client.V1ResourceQuota(metadata=client.V1ObjectMeta(name="few"), spec=client.V1ResourceQuotaSpec(hard=hard))
    own.server.core.create_namespaced_resource_quota(own.server.namespace, quota)
    own.fleet.start(a_spec())
    own.wait_until_it_waits_for("exceeded quota: few")
    own.let_pass(600)
    failed = observe_until(own, ID, EngineState.FAILED)
    assert failed.failure is StartFailure.UNSCHEDULABLE
    assert "exceeded quota: few" in str(failed.failure_detail)


def test_an_engine_on_a_lost_node_gets_no_traffic_and_fails_by_no_fault_of_its_own(own: ClusterSubject) -> None:
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)
    assert own.server.stand_in is not None
    own.server.stand_in.lose_node(own.node.name)
    failed = observe_until(own, ID, EngineState.FAILED)
    assert failed.failure is StartFailure.NODE_LOST
    assert failed.failure is not None
    assert failed.failure.is_of_the_world
    assert own.fleet.free_gpus() == 0  # of a node that is not there
