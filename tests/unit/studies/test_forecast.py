"""What the twin expects of a service is simulated once for all studies that ask the same."""

from __future__ import annotations

import os
from pathlib import Path

from controlplane.domain.engines.engine import EngineConfig
from controlplane.services.studies.forecast import forecaster
from tests.unit.studies.study_world import service_spec

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def trace(path: Path, output_tokens: int) -> None:
    rows = (f"2023-11-16 18:15:{second:02d}.6805900,400,{output_tokens}" for second in range(60))
    path.write_text(TRACE + "\n".join(rows) + "\n")


def rps(path: Path, seqs: int = 8) -> float | None:
    spec = service_spec(workload={"kind": "trace", "trace": str(path)})
    asked = forecaster(spec)
    assert asked is not None
    return asked(EngineConfig(flags={"max-num-seqs": seqs, "max-model-len": 8192}))


def test_an_equal_question_is_simulated_once() -> None:
    spec, again = service_spec(), service_spec()
    assert forecaster(spec) is forecaster(again)


def test_another_seed_rate_limit_or_gpu_is_another_question() -> None:
    spec = service_spec()
    others = [
        service_spec(tuning={"seed": 7}),
        service_spec(slos={"latency": spec.model_dump()["slos"]["latency"][:1], "target_qps": 46}),
        service_spec(slos=spec.model_dump()["slos"] | {"target_qps": 4}),
        service_spec(gpus={"type": "H100", "count": 4, "price_usd_per_gpu_hour": 4}),
    ]
    asked = [forecaster(each) for each in (spec, *others)]
    assert len({id(each) for each in asked}) == len(asked)


def test_a_trace_that_was_written_anew_is_asked_anew(tmp_path: Path) -> None:
    path = tmp_path / "recorded.csv"
    trace(path, output_tokens=50)
    before = rps(path)
    trace(path, output_tokens=400)
    os.utime(path, ns=(1, 1))  # two writes within one tick of the file system's clock
    after = rps(path)
    assert before is not None
    assert after is not None
    assert after < before / 2
