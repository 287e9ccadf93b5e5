"""What a fleet makes of engines that answer in odd ways, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.errors import InvalidInput
from controlplane.domain.fleet import EngineState, StartFailure
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
