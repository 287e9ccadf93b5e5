"""Engines other than vLLM: their command lines, whose flags they know, and a search without a twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from controlplane.adapters.fleet_processes.commands import command_line
from controlplane.adapters.loadtester_locust.level import load_test_of
from controlplane.domain.base import EngineId, ServiceName
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from controlplane.domain.launch import serve_arguments
from controlplane.domain.operations.what_if import WhatIf
from controlplane.domain.revision import revision_id
from controlplane.domain.service import EmulatorOptions, EngineOptions, ServiceSpec
from controlplane.ports.load import LoadRequest
from controlplane.reading.service_file import load_service
from controlplane.services.what_if import what_if
from loadtests.send.plan import Api
from tests.builders_serving import a_spec as a_service
from tuner.answer.plan import plan_of
from tuner.space.first_tier import shape_of, space_for
from tuner.space.knobs.checks import check_flags

DATA = Path(__file__).parent / "data"
OTHERS = (EngineKind.SGLANG, EngineKind.TENSORRT_LLM, EngineKind.TGI, EngineKind.LLAMA_CPP)


def an_engine(kind: EngineKind, **flags: Any) -> EngineSpec:
    return EngineSpec(
        engine_id=EngineId("e"),
        owner="trial/s/1",
        kind=kind,
        model="/m",
        served_name="chat",
        config=EngineConfig(flags={name.replace("_", "-"): value for name, value in flags.items()}),
        gpus=2,
        command=("sh", "{port}", "{args}"),
    )


@pytest.mark.parametrize(
    ("kind", "flags", "words"),
    [
        (
            EngineKind.SGLANG,
            {"tp": 2, "disable_radix_cache": True},
            "--served-model-name=chat --enable-metrics --disable-radix-cache --tensor-parallel-size=2",
        ),
        (
            EngineKind.TENSORRT_LLM,
            {"tp_size": 2, "max_batch_size": 64},
            "--served_model_name=chat --max_batch_size=64 --tp_size=2",
        ),
        (EngineKind.TGI, {"num_shard": 2, "quantize": "fp8"}, "--quantize=fp8 --num-shard=2"),
        (
            EngineKind.LLAMA_CPP,
            {"parallel": 4, "no_mmap": True},
            "--alias chat --metrics --no-mmap --parallel 4",
        ),
    ],
)
def test_flags_are_spelled_as_the_engine_takes_them(kind: EngineKind, flags: dict[str, Any], words: str) -> None:
    spec = an_engine(kind, **flags)
    assert " ".join(serve_arguments(spec)) == words
    assert spec.config.gpus_per_replica == (1 if kind is EngineKind.LLAMA_CPP else 2)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_program_that_is_not_here_is_said_with_how_to_get_it(kind: EngineKind) -> None:
    with pytest.raises(InvalidInput, match="is not installed here"):
        command_line(an_engine(kind).evolve(command=None), host="h", port=1)


@pytest.mark.parametrize(
    ("kind", "flag", "says"),
    [
        ("sglang", "max-num-seqs", "--max-num-seqs is a flag of vLLM: SGLang calls it --max-running-requests"),
        ("llama.cpp", "gpu-memory-utilization", "is a flag of vLLM: llama.cpp has no such flag"),
        ("tgi", "ctx-size", "is a flag of llama.cpp: TGI calls it --max-total-tokens"),
        ("tensorrt-llm", "mem-fraction-static", "TensorRT-LLM calls it --free-gpu-memory-fraction or"),
        ("vllm", "max-running-requests", "is a flag of SGLang: vLLM calls it --max-num-seqs"),
        ("emulator", "parallel", "is a flag of llama.cpp: vLLM calls it --max-num-seqs"),
        ("sglang", "port", "not yours to set"),
    ],
)
def test_a_flag_of_another_engine_is_refused_with_the_right_word(kind: str, flag: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_flags(EngineConfig(flags={flag: 1}), EngineOptions(kind=EngineKind(kind)))
    assert says in str(caught.value)


def test_without_a_flag_file_a_flag_nobody_is_known_to_have_is_left_to_the_engines_start() -> None:
    engine = EngineOptions.model_validate({"kind": "command", "mapping": own()})
    check_flags(EngineConfig(flags={"some-new-flag": 1}), engine)


def a_spec(kind: EngineKind, **tuning: Any) -> ServiceSpec:
    spec = a_service()
    return spec.evolve(engine=EngineOptions(kind=kind), tuning=spec.tuning.evolve(**tuning))


@pytest.mark.parametrize("kind", OTHERS)
def test_without_a_twin_the_search_says_so_and_goes_on(kind: EngineKind) -> None:
    spec = a_spec(kind)
    assert shape_of(spec) is None
    assert space_for(spec, spec.baseline).size > 1
    note = plan_of(spec).note
    assert note is not None
    assert "has no twin: the search goes by its trials alone" in note
    with pytest.raises(InvalidInput, match="there is no twin of"):
        what_if(spec, WhatIf())


def own() -> dict[str, Any]:
    mapping: dict[str, Any] = yaml.safe_load((DATA / "own-engine.yaml").read_text())
    return mapping


def test_an_engine_of_ones_own_needs_a_space_to_search() -> None:
    engine = EngineOptions.model_validate({"kind": "command", "mapping": own()})
    spec = a_service().evolve(engine=engine)
    with pytest.raises(InvalidInput, match="no flag of our engine is known to try"):
        space_for(spec, spec.baseline)


@pytest.mark.parametrize(
    ("engine", "says"),
    [({"kind": "command"}, "kind command needs a mapping"), ({"kind": "vllm", "mapping": own()}, "goes with kind")],
)
def test_a_mapping_goes_with_kind_command_and_no_other(engine: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EngineOptions.model_validate(engine)


def test_a_mapping_is_read_beside_the_service_and_kept_in_it(tmp_path: Path) -> None:
    raw = a_service().model_dump(mode="json")
    raw["engine"] = {"kind": "command", "mapping": "mine.yaml"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own()))
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(raw))
    assert load_service(tmp_path / "service.yaml").engine.driver.title == "our engine"
    (tmp_path / "mine.yaml").unlink()
    with pytest.raises(InvalidInput, match="cannot read the mapping"):
        load_service(tmp_path / "service.yaml")


def test_a_mapping_is_part_of_what_a_revision_is_and_new_options_rename_none() -> None:
    spec = a_service()
    name = ServiceName("s")

    def named(engine: EngineOptions) -> str:
        return revision_id(name, spec.model, engine, EngineConfig())

    one = EngineOptions.model_validate({"kind": "command", "mapping": own()})
    other = EngineOptions.model_validate({"kind": "command", "mapping": own() | {"title": "another"}})
    assert named(one) != named(other)
    assert named(EngineOptions(kind=EngineKind.VLLM)) == "rev-a8bc0b29f082"
    warm = EngineOptions.model_validate({"kind": "command", "mapping": own() | {"compiles_at_first_use": True}})
    assert named(warm) == named(one)  # it changes how trials begin, not what starts
    stalls = [EmulatorOptions(first_use_s=stall_s) for stall_s in (0, 1, 2)]
    assert len({named(EngineOptions(kind=EngineKind.EMULATOR, emulator=each)) for each in stalls}) == 3


@pytest.mark.parametrize(
    ("kind", "api", "has_words", "force_length"),
    [
        (EngineKind.VLLM, Api.COMPLETIONS, False, True),
        (EngineKind.TGI, Api.COMPLETIONS, True, False),
    ],
)
def test_a_load_is_sent_in_the_engines_dialect(kind: EngineKind, api: Api, has_words: bool, force_length: bool) -> None:
    spec = a_service()
    dialect = EngineOptions(kind=kind).driver.dialect
    request = LoadRequest(workload=spec.workload, rate_rps=1, url="http://e", model="m", duration_s=1, dialect=dialect)
    sent = load_test_of(request, processes=1)
    assert (sent.api, sent.words is not None, sent.force_length) == (api, has_words, force_length)


def test_cpus_are_a_pool_of_places() -> None:
    assert GpuPool(type="cpu", count=2, price_usd_per_gpu_hour=0.05).is_cpu
    assert not GpuPool(type="H200", count=2, price_usd_per_gpu_hour=3).is_cpu
