"""The embedding engine as the fleet runs it: a real model, a real load test, a drain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.loadtester_locust import LocustLoadTester
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.ports.load import LoadRequest
from tests.contract.fleet_subjects import ProcessSubject

ID = EngineId("embed-1")


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[ProcessSubject]:
    found = ProcessSubject(tmp_path / "engines")
    yield found
    found.close()


def an_engine(model: str = "wordllama", **flags: Any) -> EngineSpec:
    config = EngineConfig(flags={name.replace("_", "-"): value for name, value in flags.items()})
    return EngineSpec(
        engine_id=ID, owner="trial/s/1", kind=EngineKind.EMBED, model=model, served_name="small", config=config, gpus=1
    )


def test_a_load_test_of_real_embeddings_and_a_stop(subject: ProcessSubject, tmp_path: Path) -> None:
    spec = an_engine(max_batch_size=16, threads=2)
    subject.fleet.start(spec)
    subject.wait(lambda: subject.fleet.observe(ID).state is EngineState.READY)
    url = subject.fleet.observe(ID).url
    assert url is not None
    request = LoadRequest(
        workload=SyntheticWorkload(prompt_tokens=Lengths(mean=60, cv=0.3), output_tokens=Lengths(mean=1)),
        rate_rps=20,
        url=url,
        model="small",
        duration_s=2,
        slos=(LatencySlo(metric=LatencyMetric.E2E, percentile=99, limit_ms=60_000),),
        dialect=spec.driver.dialect,
    )
    with LocustLoadTester() as tester:
        report = tester.run(request, out_dir=tmp_path / "load").report
    assert report.completed == report.requests > 10
    assert report.slo_checks[0].measured is not None
    subject.wait(lambda: subject.fleet.in_flight(ID) == 0)
    subject.fleet.stop(ID, drain_s=30)
    subject.wait(lambda: subject.fleet.observe(ID).state is EngineState.STOPPED)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (an_engine(threads=0), "invalid whole number from 1 value"),
        (an_engine("/no/such/model"), "model.safetensors and tokenizer.json missing"),
    ],
)
def test_what_cannot_start_says_why(subject: ProcessSubject, spec: EngineSpec, says: str) -> None:
    subject.fleet.start(spec)
    subject.wait(lambda: subject.fleet.observe(ID).state is EngineState.FAILED)
    seen = subject.fleet.observe(ID)
    assert seen.failure is StartFailure.REFUSED_FLAG
    assert says in (seen.failure_detail or "")
