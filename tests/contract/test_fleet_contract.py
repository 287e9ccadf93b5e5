"""What every Fleet does: the fake, real processes of the emulator, and pods of a cluster (stand-in, real server)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from tests.contract.conftest import open_server
from tests.contract.fleet_on_cluster import ClusterSubject
from tests.contract.fleet_subjects import (
    GPUS,
    FakeSubject,
    FleetSubject,
    ProcessSubject,
    a_spec,
    observe_until,
)
from tests.contract.kubernetes_servers import KINDS

ID = EngineId("e-1")


@pytest.fixture(params=["fake", "processes", *KINDS])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FleetSubject]:
    made: FleetSubject
    match request.param:
        case "fake":
            made = FakeSubject()
        case "processes":
            made = ProcessSubject(tmp_path)
        case kind:
            made = ClusterSubject(open_server(request, kind, tmp_path))
    yield made
    made.close()


def test_a_started_engine_is_starting_at_once_and_ready_later(subject: FleetSubject) -> None:
    started = subject.fleet.start(a_spec())
    assert (started.state, started.ready_at) == (EngineState.STARTING, None)
    assert started.gpu_indices in ((0,), ())  # a cluster does not say which
    ready = observe_until(subject, ID, EngineState.READY)
    assert ready.url is not None
    assert ready.startup_s is not None


def test_starting_the_same_id_twice_is_one_start(subject: FleetSubject) -> None:
    first = subject.fleet.start(a_spec())
    second = subject.fleet.start(a_spec())
    assert (second.pid, second.started_at) == (first.pid, first.started_at)
    assert len(subject.fleet.list()) == 1
    assert subject.fleet.free_gpus() == GPUS - 1


def test_no_two_engines_share_a_gpu_or_a_url(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec("e-1", gpus=2))
    subject.fleet.start(a_spec("e-2", gpus=2))
    subject.wait(lambda: all(engine.url for engine in subject.fleet.list()))
    first, second = subject.fleet.list()
    assert sorted(first.gpu_indices + second.gpu_indices) in ([0, 1, 2, 3], [])
    assert first.url != second.url
    assert subject.fleet.free_gpus() == 0


def test_engines_that_share_gpus_are_given_the_same_ones_and_nobody_else_is(subject: FleetSubject) -> None:
    if not isinstance(subject, FakeSubject | ProcessSubject):
        return  # a pod has its GPUs for itself; a service that says otherwise is refused
    for name in ("e-1", "e-2"):
        subject.fleet.start(a_spec(name, gpus=3).evolve(shares_gpus="small"))
    subject.fleet.start(a_spec("e-3", gpus=1))
    assert [each.gpu_indices for each in subject.fleet.list()] == [(0, 1, 2), (0, 1, 2), (3,)]
    assert subject.fleet.free_gpus() == 0
    with pytest.raises(Unavailable):
        subject.fleet.start(a_spec("e-4", gpus=4).evolve(shares_gpus="other"))


def test_a_start_without_free_gpus_is_unavailable_and_leaves_nothing(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec("e-1", gpus=3))
    with pytest.raises(Unavailable):
        subject.fleet.start(a_spec("e-2", gpus=2))
    assert [engine.spec.engine_id for engine in subject.fleet.list()] == ["e-1"]
    assert subject.fleet.free_gpus() == 1


@pytest.mark.parametrize(
    "spec", [a_spec(gpus=GPUS + 1), a_spec(gpus=1, tensor_parallel_size=2), a_spec("Not An Id")], ids=str
)
def test_a_spec_that_can_never_run_here_is_invalid(subject: FleetSubject, spec: object) -> None:
    with pytest.raises(InvalidInput):
        subject.fleet.start(spec)  # type: ignore[arg-type]
    assert subject.fleet.free_gpus() == GPUS


def test_an_unknown_engine_is_not_found(subject: FleetSubject) -> None:
    with pytest.raises(NotFound):
        subject.fleet.observe(ID)
    with pytest.raises(NotFound):
        subject.fleet.stop(ID, drain_s=0)
    subject.fleet.forget(ID)


@pytest.mark.engines
@pytest.mark.parametrize(
    ("flags", "failure"),
    [
        ({"emulator-fault": "out-of-memory"}, StartFailure.OUT_OF_MEMORY),
        ({"max-num-sqs": 4}, StartFailure.REFUSED_FLAG),
    ],
)
def test_a_start_that_fails_says_why_and_frees_its_gpus(
    subject: FleetSubject, flags: dict[str, str | int], failure: StartFailure
) -> None:
    subject.fleet.start(a_spec(gpus=2, **flags))  # type: ignore[arg-type]
    failed = observe_until(subject, ID, EngineState.FAILED)
    assert failed.failure is failure
    assert failed.failure_detail
    assert subject.fleet.free_gpus() == GPUS


@pytest.mark.engines
def test_an_engine_that_is_not_ready_in_time_fails_and_frees_its_gpus(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec(start_timeout_s=1, emulator_startup_s=600))
    assert observe_until(subject, ID, EngineState.FAILED).failure is StartFailure.TIMEOUT
    assert subject.fleet.free_gpus() == GPUS


@pytest.mark.engines
def test_a_ready_engine_that_dies_has_crashed(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec())
    observe_until(subject, ID, EngineState.READY)
    subject.crash(ID)
    crashed = observe_until(subject, ID, EngineState.FAILED)
    assert crashed.failure is StartFailure.CRASHED
    assert crashed.ready_at is not None
    assert crashed.ended_at is not None
    assert crashed.ended_at >= crashed.ready_at
    assert subject.fleet.free_gpus() == GPUS


@pytest.mark.engines
def test_a_failed_engine_stays_failed_when_stopped(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec(emulator_fault="out-of-memory"))
    observe_until(subject, ID, EngineState.FAILED)
    assert subject.fleet.stop(ID, drain_s=5).state is EngineState.FAILED


@pytest.mark.engines
def test_in_flight_is_none_until_ready_and_then_counts_requests(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec(emulator_startup_s=1))
    assert subject.fleet.in_flight(ID) is None
    observe_until(subject, ID, EngineState.READY)
    # None too where an engine does not say so soon, as one does not that a busy machine keeps waiting.
    subject.wait(lambda: subject.fleet.in_flight(ID) == 0)
    with subject.busy(ID):
        subject.wait(lambda: subject.fleet.in_flight(ID) == 1)


def test_an_idle_engine_stops_without_waiting_for_the_drain_to_be_over(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec())
    observe_until(subject, ID, EngineState.READY)
    subject.fleet.stop(ID, drain_s=3600)
    stopped = observe_until(subject, ID, EngineState.STOPPED)
    assert (stopped.failure, subject.fleet.free_gpus()) == (None, GPUS)


@pytest.mark.engines
def test_a_busy_engine_drains_until_its_requests_are_over(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec())
    observe_until(subject, ID, EngineState.READY)
    with subject.busy(ID):
        states = [subject.fleet.stop(ID, drain_s=3600).state for _ in range(3)]
        assert states == [EngineState.DRAINING] * 3
        assert subject.fleet.free_gpus() == GPUS - 1
    observe_until(subject, ID, EngineState.STOPPED)


@pytest.mark.engines
def test_a_busy_engine_is_stopped_when_the_drain_is_over(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec())
    observe_until(subject, ID, EngineState.READY)
    with subject.busy(ID):
        subject.fleet.stop(ID, drain_s=3600)
        subject.fleet.stop(ID, drain_s=0)  # a later stop may shorten the drain
        observe_until(subject, ID, EngineState.STOPPED)


def test_stopping_an_engine_that_still_starts_ends_it(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec(emulator_startup_s=600))
    subject.fleet.stop(ID, drain_s=3600)
    observe_until(subject, ID, EngineState.STOPPED)


def test_only_an_engine_that_ended_is_forgotten(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec(emulator_startup_s=600))
    with pytest.raises(Conflict):
        subject.fleet.forget(ID)
    subject.fleet.stop(ID, drain_s=0)
    observe_until(subject, ID, EngineState.STOPPED)
    subject.fleet.forget(ID)
    assert list(subject.fleet.list()) == []
    with pytest.raises(NotFound):
        subject.fleet.observe(ID)


@pytest.mark.engines
def test_a_ready_engine_that_hangs_is_seen_to_and_one_that_wakes_is_well_again(subject: FleetSubject) -> None:
    subject.fleet.start(a_spec("e-1"))
    subject.fleet.start(a_spec("e-2"))
    for name in ("e-1", "e-2"):
        observe_until(subject, EngineId(name), EngineState.READY)

    def answering() -> list[bool]:
        return [engine.answers for engine in subject.fleet.list() if engine.state is EngineState.READY]

    subject.wait(lambda: answering() == [True, True])
    subject.hang(ID)
    subject.wait(lambda: answering() == [False, True])
    subject.wake(ID)
    subject.wait(lambda: answering() == [True, True])
