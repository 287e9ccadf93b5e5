"""What a fleet makes of engines that answer in odd ways, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.adapters.fleet_processes.fleet import FleetProcesses
from controlplane.adapters.fleet_processes.looks import Look, Looks, Pace, look
from controlplane.adapters.fleet_processes.records import Record
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import InvalidInput
from tests.contract.fleet_subjects import ProcessSubject, a_spec, observe_until

ID = EngineId("e-1")


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[ProcessSubject]:
    made = ProcessSubject(tmp_path)
    yield made
    made.close()


def test_an_engine_that_asks_for_a_key_is_asked_with_it(subject: ProcessSubject) -> None:
    subject.fleet.start(a_spec(api_key="hush"))
    observe_until(subject, ID, EngineState.READY)


def test_an_engine_that_became_ready_is_told_of_without_another_look(tmp_path: Path) -> None:
    told = threading.Semaphore(0)
    fleet = FleetProcesses(tmp_path, gpus=1, pace=Pace(when_looked=told.release))
    fleet.start(a_spec(emulator_startup_s=0.5))
    fleet.list()
    assert told.acquire(timeout=240)
    while fleet.observe(ID).state is EngineState.STARTING:  # on a busy machine the first look may have found it so
        told.acquire(timeout=1)
    assert fleet.observe(ID).state is EngineState.READY
    fleet.stop(ID, drain_s=0)


def test_a_healthy_engine_that_answers_no_request_is_not_ready(subject: ProcessSubject) -> None:
    stalling = "stall-ratio=1,stall-after-tokens=0"
    subject.fleet.start(a_spec(emulator_fault=stalling, start_timeout_s=5))
    assert observe_until(subject, ID, EngineState.FAILED).failure is StartFailure.TIMEOUT


def test_an_engine_without_metrics_does_not_say_what_is_in_flight_and_drains_to_the_end(
    subject: ProcessSubject,
) -> None:
    subject.fleet.start(a_spec(emulator_fault="metrics=missing"))
    observe_until(subject, ID, EngineState.READY)
    assert subject.fleet.in_flight(ID) is None
    assert subject.fleet.stop(ID, drain_s=3600).state is EngineState.DRAINING
    subject.fleet.stop(ID, drain_s=0)
    observe_until(subject, ID, EngineState.STOPPED)


def test_the_records_of_a_fleet_are_for_its_owner_only(subject: ProcessSubject, tmp_path: Path) -> None:
    subject.fleet.start(a_spec(api_key="hush", emulator_startup_s=600))
    log = subject.fleet.observe(ID).log_path
    assert log is not None
    files = [tmp_path / "engines" / ID / "record.json", Path(log)]
    assert [oct(file.stat().st_mode & 0o077) for file in files] == ["0o0", "0o0"]


def test_a_state_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot keep engines in"):
        ProcessSubject(tmp_path / "file" / "engines")


def test_engines_that_hang_for_long_are_given_up_and_do_not_hold_up_a_look(tmp_path: Path) -> None:
    subject = ProcessSubject(tmp_path)
    names = [EngineId(f"e-{number}") for number in range(4)]
    for name in names:
        subject.fleet.start(a_spec(name))
    for name in names:
        observe_until(subject, name, EngineState.READY)
    for name in names:
        subject.hang(name)
    subject = ProcessSubject(tmp_path, hung_s=1.0)  # from now on: before, engines that start on a busy machine are slow
    subject.wait(lambda: all(engine.state is EngineState.FAILED for engine in subject.fleet.list()))
    ended = list(subject.fleet.list())
    assert {engine.failure for engine in ended} == {StartFailure.CRASHED}
    assert all("hangs: no answer" in str(engine.failure_detail) for engine in ended)
    subject.close()


def test_a_draining_engine_that_hangs_does_not_hold_its_gpus_until_the_end_of_its_drain(tmp_path: Path) -> None:
    subject = ProcessSubject(tmp_path)
    subject.fleet.start(a_spec())
    observe_until(subject, ID, EngineState.READY)
    subject.hang(ID)
    assert subject.fleet.stop(ID, drain_s=3600).state is EngineState.DRAINING
    subject = ProcessSubject(tmp_path, hung_s=1.0)  # not before: on a busy machine any engine is silent so long
    observe_until(subject, ID, EngineState.STOPPED)
    subject.close()


def test_questions_to_engines_are_asked_side_by_side() -> None:
    begun, together = threading.Semaphore(0), threading.Event()
    records = [_a_ready_record(number) for number in range(6)]

    def question(record: Record, pace: Pace) -> Look:
        begun.release()
        together.wait(240)
        return Look(well=True)

    looks = Looks(Pace(), ask=question)
    assert set(looks.take(records).values()) == {Look()}  # nobody answered yet, and that held up nobody
    for _ in records:
        assert begun.acquire(timeout=240)
    together.set()
    answers: set[EngineId] = set()
    while len(answers) < len(records):
        answers |= {name for name, look in looks.take(records).items() if look.well}


def test_threads_that_look_side_by_side_have_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Looks.__module__}._WAIT_S", 240.0)
    records, answer = [_a_ready_record(1)], threading.Event()

    def question(record: Record, pace: Pace) -> Look:
        answer.wait(240)
        return Look(well=True)

    looks = Looks(Pace(), ask=question)
    with ThreadPoolExecutor(4) as pool:
        taken = [pool.submit(looks.take, records) for _ in range(4)]
        threading.Timer(0.3, answer.set).start()  # by then all of them wait for it
        assert [each.result()[ID] for each in taken] == [Look(well=True)] * 4


def test_an_engine_that_starts_is_asked_again_at_once_when_a_look_found_it_not_ready() -> None:
    asked = threading.Semaphore(0)

    def question(record: Record, pace: Pace) -> Look:
        asked.release()
        return Look(well=False)

    looks, starting = Looks(Pace(), ask=question), _a_ready_record(1).evolve(ready_at=None)
    while looks.take([starting])[ID].well is None:
        continue
    assert all(asked.acquire(timeout=240) for _ in range(2)), "the next look waits for no pass"


def test_the_end_of_a_look_that_found_an_engine_not_ready_is_told() -> None:
    told = threading.Event()
    starting = _a_ready_record(1).evolve(ready_at=None)
    assert look(starting, Pace(when_looked=told.set)) == Look(well=False)
    assert told.is_set()


def _a_ready_record(number: int) -> Record:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    spec = a_spec(f"e-{number}")
    return Record(spec=spec, host="127.0.0.1", port=1, gpu_indices=(0,), started_at=now, ready_at=now)
