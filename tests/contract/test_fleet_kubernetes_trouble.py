"""A fleet on a cluster whose server breaks off, is overloaded, away, or lets nobody do what is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.errors import Forbidden, InvalidInput, Unavailable
from tests.contract.fleet_on_cluster import (
    ClusterSubject,
    a_cluster_of_its_own,
    cluster_fleet,
    cluster_options,
    faults,
    ready,
    replica,
)
from tests.contract.fleet_subjects import a_spec, observe_until

ID = EngineId("e-1")
MERGE = "application/merge-patch+json"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ClusterSubject]:
    with a_cluster_of_its_own(tmp_path) as made:
        yield made


def test_watches_that_break_or_expire_lose_nothing(own: ClusterSubject) -> None:
    own.fleet.start(a_spec("e-1"))
    observe_until(own, ID, EngineState.READY)
    assert own.server.stand_in is not None
    for harm in (faults(own).drop_watches, own.server.stand_in.objects.compact):
        harm()
        faults(own).drop_watches()
        own.crash(ID)
        observe_until(own, ID, EngineState.FAILED)
        own.fleet.forget(ID)
        own.wait(lambda: not own.fleet.list())
        own.fleet.start(a_spec("e-1"))
        observe_until(own, ID, EngineState.READY)


@pytest.mark.parametrize("kind", ["pods", "deployments", "nodes"])
def test_watches_of_one_kind_that_are_told_later_than_the_others_lose_no_engine(own: ClusterSubject, kind: str) -> None:
    faults(own).late[kind] = 1.0
    first, second = EngineId("chat-rev-1-1"), EngineId("chat-rev-1-2")
    for number in (1, 2):
        own.fleet.start(replica(number))
    ready(own, first, second)
    kept = own.fleet.observe(second).pod
    own.fleet.stop(first, drain_s=0)
    observe_until(own, first, EngineState.STOPPED)
    own.fleet.start(replica(3))
    ready(own, "chat-rev-1-3")
    left = {engine.spec.engine_id: engine.state for engine in own.fleet.list()}
    assert left == {first: EngineState.STOPPED, second: EngineState.READY, "chat-rev-1-3": EngineState.READY}
    assert own.fleet.observe(second).pod == kept


def test_a_pass_over_what_did_not_change_asks_the_server_nothing(own: ClusterSubject) -> None:
    for number in (1, 2):
        own.fleet.start(replica(number))
    ready(own, "chat-rev-1-1", "chat-rev-1-2")
    before = [call for call in faults(own).calls if call.verb not in ("watch", "list")]
    kubelets = {"nodes", "pods"}
    for _ in range(5):
        own.fleet.list()
    after = [call for call in faults(own).calls if call.verb not in ("watch", "list")]
    assert [call for call in after[len(before) :] if call.resource not in kubelets] == []


@pytest.mark.parametrize("codes", [(429, 429), (500,)])
def test_an_overloaded_server_is_unavailable_and_the_next_pass_goes_on(
    own: ClusterSubject, codes: tuple[int, ...]
) -> None:
    own.fleet.list()
    faults(own).answer_next(*codes, agent="fleetune", verb="patch")
    with pytest.raises(Unavailable, match=r"Too many requests|is asked to say so"):
        own.fleet.start(a_spec())
    assert list(own.fleet.list()) == []
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)


def test_a_server_that_says_how_soon_to_ask_again_is_asked_again_then(own: ClusterSubject) -> None:
    own.fleet.list()
    faults(own).answer_next(429, agent="fleetune", verb="patch")
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)


@pytest.mark.parametrize("verb", ["patch", "create"])  # an apply that makes an object needs both
def test_a_missing_right_names_the_verb_and_what_it_is_missing_on(own: ClusterSubject, verb: str) -> None:
    own.fleet.list()
    faults(own).forbid(verb, "deployments")
    with pytest.raises(Forbidden, match=f"Role with verb {verb} on deployments"):
        own.fleet.start(a_spec())
    assert list(own.fleet.list()) == []


def test_nodes_that_may_not_be_seen_are_named(own: ClusterSubject) -> None:
    faults(own).forbid("list", "nodes")
    blind = cluster_fleet(own.server)
    with pytest.raises(Forbidden, match="verb list on nodes"):
        blind.free_gpus()
    blind.close()


def test_labels_that_no_gpu_node_has_are_named_with_those_there_are(own: ClusterSubject) -> None:
    wrong = cluster_options(own.server).evolve(node_selector={"nvidia.com/gpu.product": "NVIDIA-H900"})
    fleet = FleetKubernetes(open_door(own.server.kubeconfig()), namespace=own.server.namespace, options=lambda _: wrong)
    with pytest.raises(Unavailable, match=r"no node has nvidia\.com/gpu and nvidia\.com/gpu\.product=NVIDIA-H900"):
        fleet.start(a_spec())
    fleet.close()


def test_an_engine_with_a_key_of_its_own_is_refused_and_the_key_written_nowhere(own: ClusterSubject) -> None:
    spec = a_spec().evolve(env={"VLLM_API_KEY": "planted-secret"}, kind="vllm")
    with pytest.raises(InvalidInput, match="asks for a key") as error:
        own.fleet.start(spec)
    assert "planted-secret" not in str(error.value)
    assert own.server.apps.list_namespaced_deployment(own.server.namespace).items == []


def test_a_server_that_is_away_is_unavailable_once_what_is_known_is_old(own: ClusterSubject) -> None:
    own.fleet.start(a_spec())
    observe_until(own, ID, EngineState.READY)
    assert own.server.stand_in is not None
    own.server.stand_in.server.is_out = True
    assert [engine.state for engine in own.fleet.list()] == [EngineState.READY]  # known, for a while
    with pytest.raises(Unavailable, match="does not answer"):
        own.fleet.stop(ID, drain_s=0)
    own.server.stand_in.server.is_out = False
    observe_until(own, ID, EngineState.READY)
