"""An engine that nobody here knows, started and read by its mapping alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controlplane.domain.base import EngineId
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from tests.contract.fleet_subjects import ProcessSubject

ID = EngineId("own-1")
MAPPING = Path(__file__).parent.parent / "unit" / "engines" / "data" / "own-engine.yaml"


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[ProcessSubject]:
    found = ProcessSubject(tmp_path / "engines")
    yield found
    found.close()


def an_engine(**flags: FlagValue) -> EngineSpec:
    return EngineSpec(
        engine_id=ID,
        owner="trial/s/1",
        kind=EngineKind.COMMAND,
        mapping=EngineDriver.model_validate(yaml.safe_load(MAPPING.read_text())),
        model="/models/m",
        served_name="our model",
        config=EngineConfig(flags={name.replace("_", "-"): value for name, value in flags.items()}),
        gpus=1,
        env={"OUR_KEY": "k3y"},
    )


def test_it_becomes_ready_is_counted_and_stops(subject: ProcessSubject) -> None:
    subject.fleet.start(an_engine(worker_threads=2))
    subject.wait(lambda: subject.fleet.observe(ID).state is EngineState.READY)
    subject.wait(lambda: subject.fleet.in_flight(ID) == 3)
    subject.fleet.stop(ID, drain_s=0)
    subject.wait(lambda: subject.fleet.observe(ID).state is EngineState.STOPPED)


def test_its_own_words_tell_that_a_flag_was_refused(subject: ProcessSubject) -> None:
    subject.fleet.start(an_engine(worker_threads=9))
    subject.wait(lambda: subject.fleet.observe(ID).state is EngineState.FAILED)
    seen = subject.fleet.observe(ID)
    assert seen.failure is StartFailure.REFUSED_FLAG
    assert seen.failure_detail is not None
    assert "too many worker threads" in seen.failure_detail
