"""What is refused before a start, what is left to it, and what is known of a model or a GPU that nobody knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from controlplane.domain.operations.what_if import WhatIf
from controlplane.domain.service import EngineOptions, ServiceSpec
from controlplane.services.studies.forecast import forecaster
from controlplane.services.studies.search import feasible_points
from controlplane.services.studies.trial_twin import trial_twin
from controlplane.services.what_if import what_if
from tests.unit.tuner.twin.builders import a_public_model, public_models
from tuner.space.feasibility import memory_plan, objections
from tuner.space.first_tier import engine_defaults, shape_of, space_for
from tuner.space.knobs.schema import knobs_of
from tuner.twin.gpus import gpu_of


def a_pool(gpu: str = "H200", count: int = 8) -> GpuPool:
    return GpuPool(type=gpu, count=count, price_usd_per_gpu_hour=1)


def against(model: str, flags: dict[str, FlagValue], gpu: str = "H200") -> str:
    pool = a_pool(gpu)
    defaults = engine_defaults(knobs_of(EngineOptions(kind="vllm", version="0.26")), gpu_of(pool))
    shape = a_public_model(model)
    return "; ".join(objections(EngineConfig(flags=flags), pool=pool, shape=shape, defaults=defaults))


OFF: dict[str, FlagValue] = {"enable-chunked-prefill": False, "max-num-batched-tokens": 4096}


@pytest.mark.parametrize(
    ("model", "flags", "why"),
    [
        ("Llama-3.1-8B", OFF, "max-model-len 131072"),
        ("Llama-3.1-8B", {**OFF, "max-model-len": "8k"}, "max-model-len 8000"),
        ("Llama-3.1-8B", {"max-model-len": "200k"}, "above the model's 131072"),
        ("Llama-3.1-8B", {"max-num-seqs": 64, "max-num-batched-tokens": 32}, "below max-num-seqs 64"),
        ("Qwen2.5-7B", {"tensor-parallel-size": 8}, "attention heads"),
        ("DeepSeek-V3", {"max-model-len": 8192}, "weights take"),
    ],
)
def test_what_vllm_refuses_is_refused_with_the_reason(model: str, flags: dict[str, FlagValue], why: str) -> None:
    assert why in against(model, flags)


@pytest.mark.parametrize(
    ("model", "flags", "gpu"),
    [
        ("Llama-3.1-8B", {**OFF, "max-model-len": 4096}, "H200"),
        ("Llama-3.1-8B", {"max-model-len": "32k"}, "H100"),
        ("Llama-3.1-8B", {"max-model-len": -1}, "L4"),
        ("DeepSeek-V2-Lite", {"max-model-len": 131072}, "L40S"),
        ("Qwen3-30B-A3B", {"max-model-len": 32768}, "H100"),
        ("Llama-3.1-70B", {"max-model-len": 8192, "cpu-offload-gb": 40}, "H200"),
        ("gpt-oss-20b", {"max-model-len": 131072}, "H100"),
    ],
)
def test_what_vllm_takes_is_not_refused(model: str, flags: dict[str, FlagValue], gpu: str) -> None:
    assert against(model, flags, gpu) == ""


def a_spec(path: Path | str, gpu: str, **pool: float) -> ServiceSpec:
    return ServiceSpec.model_validate(
        {
            "version": 1,
            "name": "q",
            "model": {"name": "m", "path": str(path)},
            "engine": {"kind": "vllm", "version": "0.26", "flags": {"max-model-len": 8192}},
            "gpus": {"type": gpu, "count": 2, "price_usd_per_gpu_hour": 3, **pool},
            "workload": {"kind": "trace", "trace": "azure-llm-2023/conv", "rate_rps": 3, "seed": 7},
            "slos": {"latency": [{"metric": "ttft_ms", "percentile": 99, "limit_ms": 1000}], "target_qps": 10},
        }
    )


def a_model(folder: Path, **changes: Any) -> Path:
    config = {**public_models()["Llama-3.1-8B"]["config"], **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("changes", "gpu"),
    [
        ({"architectures": ["NobodyKnowsForCausalLM"]}, "H200"),
        ({"quantization_config": {"quant_method": "wonder"}}, "H200"),
        ({}, "NVIDIA GB10"),
        ({"architectures": ["NobodyKnowsForCausalLM"]}, "Zeta 1"),
    ],
)
def test_an_unknown_model_or_gpu_is_searched_without_a_twin(tmp_path: Path, changes: dict[str, Any], gpu: str) -> None:
    spec = a_spec(a_model(tmp_path, **changes), gpu)
    space = space_for(spec, spec.baseline)
    assert len(feasible_points(spec, space)) > 100
    assert forecaster(spec) is None
    assert trial_twin(spec, spec.baseline, spec.workload, seed=1, start_rps=1.0) is None
    with pytest.raises(InvalidInput, match=r"NobodyKnows|wonder|GPU"):
        what_if(spec, WhatIf())


def test_memory_alone_is_enough_for_what_fits_and_nothing_is_forecast(tmp_path: Path) -> None:
    spec = a_spec(a_model(tmp_path), "Zeta 1", memory_gib=20)
    shape = shape_of(spec)
    assert shape is not None
    plan = memory_plan(spec.baseline, pool=spec.gpus, shape=shape)
    assert plan is not None
    assert plan.weights_gib < 20
    capacity_of = forecaster(spec)
    assert capacity_of is None or capacity_of(spec.baseline) is None
