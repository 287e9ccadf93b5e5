"""How engines of one Deployment move on: every engine one pod, no pod two engines, and an end is an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.adapters.fleet_kubernetes.ledger import Entry, Ledger, replicas
from controlplane.adapters.fleet_kubernetes.sight import PodSight, sight_of, what_is_short
from controlplane.adapters.fleet_kubernetes.steps import Around, Patience, moved_on, to_delete, waits_for
from controlplane.domain.base import EngineId
from controlplane.domain.engines.driver import LogReading
from controlplane.domain.engines.start_failure import StartFailure

START = datetime(2026, 1, 1, tzinfo=UTC)
ONE = EngineId("e-1")


def pod(name: str = "p-1", **more: Any) -> PodSight:
    plain = sight_of({"metadata": {"name": name}, "spec": {"nodeName": "n-1"}})
    return plain._replace(**more)


def around(after_s: float = 1, **more: Any) -> Around:
    base = Around(
        now=START + timedelta(seconds=after_s),
        patience=Patience(place_s=600, image_s=180),
        start_timeout_s=900,
        lost_nodes=frozenset(),
        ready_nodes=frozenset({"n-1"}),
        refused_pods="",
        log=LogReading(),
        tail=lambda _: "",
    )
    return base._replace(**more)


def step(entry: Entry, *pods: PodSight, **more: Any) -> Entry:
    after = more.pop("after_s", 1.0)
    assert isinstance(after, float)
    return moved_on({ONE: entry}, {each.name: each for each in pods}, around(after, **more))[ONE]


def bound(**more: Any) -> Entry:
    return Entry(started_at=START, pod="p-1").evolve(**more)


@pytest.mark.parametrize(
    ("sight", "after_s", "failure"),
    [
        (pod(waiting="ImagePullBackOff"), 179.0, None),
        (pod(waiting="ImagePullBackOff"), 180.0, StartFailure.IMAGE_PULL),
        (pod(waiting="InvalidImageName"), 1.0, StartFailure.IMAGE_PULL),
        (pod(waiting="ErrImageNeverPull"), 1.0, StartFailure.IMAGE_PULL),
        (pod(waiting="SignatureValidationFailed"), 180.0, StartFailure.IMAGE_PULL),
        (pod(waiting="ContainerCreating", waiting_for="ContainerCreating"), 1799.0, None),
        (pod(waiting="ContainerCreating", waiting_for="ContainerCreating"), 1800.0, StartFailure.UNSCHEDULABLE),
        (pod(), 1800.0, StartFailure.UNSCHEDULABLE),
        (pod(running_since=START + timedelta(seconds=1000)), 1800.0, None),
        (pod(waiting="CreateContainerConfigError"), 180.0, StartFailure.OTHER),
        (pod(unplaced="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), 599.0, None),
        (pod(unplaced="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), 600.0, StartFailure.UNSCHEDULABLE),
        (pod(running_since=START + timedelta(seconds=500)), 1399.0, None),  # pulling took 500 s
        (pod(running_since=START + timedelta(seconds=500)), 1400.0, StartFailure.TIMEOUT),
        (pod(restarts=1, exit_code=1, exit_reason="OOMKilled"), 1.0, StartFailure.OUT_OF_MEMORY),
        (pod(is_over=True, exit_reason="Evicted", exit_message="low on memory"), 1.0, StartFailure.NODE_LOST),
        (
            pod(is_over=True, exit_reason="UnexpectedAdmissionError", exit_message="0 left"),
            1.0,
            StartFailure.UNSCHEDULABLE,
        ),
        (pod(is_over=True, exit_reason="OutOfnvidia.com/gpu"), 1.0, StartFailure.UNSCHEDULABLE),
        (pod(is_over=True, exit_reason="Error", exit_code=1), 1.0, StartFailure.OTHER),
        (pod(deleting_grace_s=30, disruption="DeletionByTaintManager"), 1.0, StartFailure.NODE_LOST),
        (pod(restarts=1, exit_code=137, ran_s=901.0), 2000.0, StartFailure.TIMEOUT),
    ],
)
def test_why_an_engine_is_given_up_and_when(sight: PodSight, after_s: float, failure: StartFailure | None) -> None:
    assert step(bound(), sight, after_s=after_s).failure is failure


def test_a_pod_that_is_gone_with_its_node_is_the_world_s_doing() -> None:
    was_ready = bound(ready_at=START, node="n-1")
    assert step(was_ready).failure is StartFailure.CRASHED
    gone = step(was_ready, ready_nodes=frozenset())
    assert (gone.failure, gone.detail) == (StartFailure.NODE_LOST, "pod p-1 is gone with node n-1")


def test_an_engine_without_a_pod_says_why_the_cluster_makes_none() -> None:
    entry = step(Entry(started_at=START), after_s=600.0, refused_pods="exceeded quota: few")
    assert entry.failure is StartFailure.UNSCHEDULABLE
    assert "exceeded quota: few" in str(entry.detail)
    assert waits_for(Entry(started_at=START), None, (), "exceeded quota: few") == "exceeded quota: few"


def test_a_pod_taken_away_before_it_was_ready_is_replaced_by_the_next() -> None:
    moved = step(bound(), pod("p-2", restarts=3))
    assert (moved.pod, moved.restarts, moved.failure) == ("p-2", 3, None)


def test_a_starting_pod_that_the_cluster_takes_away_is_replaced_while_it_goes() -> None:
    going = pod(deleting_grace_s=180)  # replicas were lowered, and this one was not ready yet
    moved = step(bound(), going)
    assert (moved.failure, moved.pod) == (None, None)
    assert step(moved, going, pod("p-2")).pod == "p-2"


@pytest.mark.parametrize(
    ("entry", "sight"),
    [
        (bound(ready_at=START), pod(deleting_grace_s=180)),
        (bound(), pod(deleting_grace_s=180, restarts=1, exit_code=1)),
        (bound(), pod(deleting_grace_s=180, is_over=True, exit_code=1)),
    ],
    ids=["was ready", "died before", "is over"],
)
def test_a_pod_that_had_its_chance_is_not_replaced_when_it_goes(entry: Entry, sight: PodSight) -> None:
    after = step(entry, sight)
    assert (after.pod, after.failure is not None) == ("p-1", True)


def test_restarts_from_before_an_engine_took_a_pod_over_are_not_its_own() -> None:
    assert step(bound(restarts=2), pod(restarts=2)).failure is None


def test_a_pod_on_a_lost_node_goes_without_grace_and_any_other_with_some() -> None:
    ledger = {ONE: bound(failure=StartFailure.NODE_LOST)}
    pods = {"p-1": pod()}
    for lost, grace in ((frozenset({"n-1"}), 0), (frozenset[str](), 1)):
        assert to_delete(ledger, pods, around(0, lost_nodes=lost), grace_s=180) == [("p-1", grace)]


def test_a_drained_pod_gets_its_grace_until_the_drain_is_over() -> None:
    ledger = {ONE: bound(drain_until=START + timedelta(seconds=60))}
    for sight, after_s, wanted in (
        (pod(), 1, [("p-1", 180)]),
        (pod(deleting_grace_s=180), 1, []),
        (pod(deleting_grace_s=180), 60, [("p-1", 1)]),
        (pod(deleting_grace_s=1), 60, []),
    ):
        now = START + timedelta(seconds=after_s)
        assert to_delete(ledger, {"p-1": sight}, around()._replace(now=now), grace_s=180) == wanted


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu, 1 Insufficient memory.", "memory, nvidia.com/gpu"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "node_selector"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {a: b}.", "no node takes it"),
    ],
)
def test_what_is_short_is_said_in_words(message: str, says: str) -> None:
    assert says in what_is_short(message)


_NAMES = [f"p-{number}" for number in range(5)]
_PODS = st.lists(
    st.builds(
        pod,
        st.sampled_from(_NAMES),
        is_ready=st.booleans(),
        restarts=st.integers(0, 2),
        exit_code=st.sampled_from([None, 0, 1, 137]),
        is_over=st.booleans(),
        deleting_grace_s=st.sampled_from([None, 1.0, 30.0]),
    ),
    unique_by=lambda each: each.name,
)
_ENTRIES = st.builds(
    Entry,
    started_at=st.just(START),
    ready_at=st.sampled_from([None, START]),
    drain_until=st.sampled_from([None, START]),
)


@given(st.lists(_ENTRIES, max_size=4), st.lists(_PODS, max_size=6))
def test_whatever_happens_no_pod_has_two_engines_and_what_ended_stays(
    entries: Sequence[Entry], history: Sequence[Sequence[PodSight]]
) -> None:
    ledger: Ledger = {EngineId(f"e-{number}"): entry for number, entry in enumerate(entries)}
    for number, seen in enumerate(history):
        pods: Mapping[str, PodSight] = {each.name: each for each in seen}
        after = moved_on(ledger, pods, around(number))
        live = [entry.pod for entry in after.values() if entry.pod is not None and entry.ended_at is None]
        assert len(live) == len(set(live))
        assert all(after[name] == entry for name, entry in ledger.items() if entry.ended_at is not None)
        assert replicas(after) <= replicas(ledger)
        ledger = after
