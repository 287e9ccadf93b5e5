"""Does it fit, how many KV tokens, and what vLLM's defaults make of missing flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput
from tests.unit.tuner.twin.builders import a_profile, a_public_model
from tuner.twin.gpus import find_gpu
from tuner.twin.memory import plan_memory, weights_gib
from tuner.twin.setup import DoesNotFit, EngineSetup, NotModelled, memory_demand, resolve
from tuner.twin.shapes import UnknownModel, load_shape, parse_shape

DP = "data-parallel-size"
MEASURED: tuple[tuple[str, dict[str, FlagValue], int], ...] = (
    ("llama-8b", {}, 919_824),
    ("llama-8b", {"max-num-seqs": 32, "max-num-batched-tokens": 2048}, 920_592),
    ("llama-8b", {"tensor-parallel-size": 2}, 1_972_672),
    ("llama-8b", {"quantization": "fp8"}, 972_496),
    ("llama-8b", {"quantization": "fp8", "tensor-parallel-size": 2}, 2_025_536),
    ("llama-70b", {"tensor-parallel-size": 2}, 404_000),
    ("llama-70b", {"quantization": "fp8"}, 191_328),
    ("llama-70b", {"quantization": "fp8", "tensor-parallel-size": 2}, 612_688),
)
"""vLLM 0.26.0 on H200, max-model-len 8192: what it printed as KV cache tokens."""


def an_engine(model: str, flags: dict[str, FlagValue], gpu: str = "H200") -> EngineSetup:
    return resolve(load_shape(model), gpu, EngineConfig(flags={"max-model-len": 8192, **flags}))


@pytest.mark.parametrize(("model", "flags", "tokens"), MEASURED)
def test_kv_tokens_are_what_vllm_reported(model: str, flags: dict[str, FlagValue], tokens: int) -> None:
    assert an_engine(model, flags).memory.kv_tokens == pytest.approx(tokens, rel=0.03)


@pytest.mark.parametrize(
    ("model", "flags", "gpu"),
    [
        ("llama-70b", {}, "H200"),
        ("llama-70b", {"quantization": "fp8"}, "A100-40"),
        ("llama-8b", {"gpu-memory-utilization": 0.7}, "L4"),
        ("llama-8b", {"gpu-memory-utilization": 0.1}, "H200"),
        ("llama-8b", {"tensor-parallel-size": 3}, "H200"),
        ("llama-8b", {"max-num-seqs": 512, "max-num-batched-tokens": 256}, "H200"),
        ("llama-8b", {"enable-chunked-prefill": False, "max-num-batched-tokens": 1024}, "H200"),
    ],
)
def test_what_vllm_would_refuse_does_not_fit(model: str, flags: dict[str, FlagValue], gpu: str) -> None:
    with pytest.raises(DoesNotFit):
        an_engine(model, flags, gpu)


def test_a_cache_smaller_than_one_request_is_refused_with_the_remedy() -> None:
    with pytest.raises(DoesNotFit, match="max-model-len 131072"):
        an_engine("llama-70b", {"quantization": "fp8", "max-model-len": 131072, "gpu-memory-utilization": 0.6})


def test_missing_flags_get_the_defaults_of_a_large_gpu() -> None:
    setup = an_engine("llama-8b", {})
    assert (setup.max_num_seqs, setup.max_num_batched_tokens, setup.cost.graph_tokens) == (1024, 8192, 512)
    assert setup.chunked_prefill
    assert setup.prefix_caching
    assert setup.async_scheduling


def test_missing_flags_get_the_defaults_of_a_small_gpu() -> None:
    setup = an_engine("llama-8b", {}, "A100-80")
    assert (setup.max_num_seqs, setup.max_num_batched_tokens) == (256, 2048)


def test_the_largest_graph_follows_the_running_limit() -> None:
    assert an_engine("llama-8b", {"max-num-seqs": 32}).cost.graph_tokens == 64
    assert an_engine("llama-8b", {"enforce-eager": True}).cost.graph_tokens == 0


@pytest.mark.parametrize("flag", ["max-num-seqs", "block-size"])
@pytest.mark.parametrize("value", ["many", -1, 0, True])
def test_a_flag_of_the_wrong_type_is_named(flag: str, value: FlagValue) -> None:
    with pytest.raises(InvalidInput, match=flag):
        an_engine("llama-8b", {flag: value})


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(InvalidInput, match="H200"):
        find_gpu("RTX 9999")
    with pytest.raises(InvalidInput, match="quantization"):
        an_engine("llama-8b", {"quantization": "magic"})
    with pytest.raises(UnknownModel, match="llama-8b"):
        load_shape("/nowhere/at-all")
    with pytest.raises(UnknownModel, match="hidden_size"):
        parse_shape({"model_type": "llama"}, name="broken")


def test_a_model_folder_is_read(tmp_path: Path) -> None:
    config = {
        "architectures": ["MixtralForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "quantization_config": {"quant_method": "awq"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = load_shape(str(tmp_path))
    assert (shape.layers[0].kv_heads, shape.experts, shape.experts_per_token, shape.quantization) == (32, 8, 2, "awq")
    assert shape.active_linear_params < shape.linear_params


def test_routed_experts_are_spread_over_data_parallel_ranks_and_the_rest_is_copied() -> None:
    shape, gpu = a_public_model("Qwen3-30B-A3B"), find_gpu("H100")
    alone, spread = (weights_gib(shape, memory_demand(shape, gpu, EngineConfig(flags=f))) for f in ({}, {DP: 4}))
    assert spread == pytest.approx(alone - 0.75 * shape.routed_params * 2 / 2**30, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "gpu", "flags", "fits"),
    [
        ("Qwen3-30B-A3B", "H100", {}, True),
        ("Qwen3-30B-A3B", "L40S", {}, False),
        ("Qwen3-Next-80B-A3B", "H200", {}, False),
        ("Qwen3-Next-80B-A3B", "H200", {"tensor-parallel-size": 2}, True),
        ("DeepSeek-V3", "H200", {}, False),
        ("DeepSeek-V3", "H200", {"tensor-parallel-size": 8, "quantization": "fp8"}, True),
        ("DeepSeek-V2-Lite", "L40S", {"max-model-len": 131072}, True),
        ("DeepSeek-V2-Lite", "L4", {}, False),
        ("Llama-3.1-70B", "H200", {"cpu-offload-gb": 40}, True),
        ("Llama-3.1-70B", "H200", {"cpu-offload-gb": 0}, False),
        ("Llama-3.1-70B", "H200", {"quantization": "fp8", "max-model-len": -1}, True),
        ("Llama-3.1-8B", "L40S", {"kv-cache-memory-bytes": "2G", "gpu-memory-utilization": 0.2}, True),
    ],
)
def test_fits_or_does_not_as_on_the_real_card(model: str, gpu: str, flags: dict[str, FlagValue], fits: bool) -> None:
    shape, sheet = a_public_model(model), find_gpu(gpu)
    demand = memory_demand(shape, sheet, EngineConfig(flags={"max-model-len": 8192, **flags}))
    assert plan_memory(shape, sheet, demand).fits is fits


@pytest.mark.parametrize(
    ("model", "gpu", "tokens"), [("Qwen3-14B", "H100", 285_040), ("Qwen3-30B-A3B", "H100", 153_856)]
)
def test_kv_tokens_on_h100_are_what_vllm_reported(model: str, gpu: str, tokens: int) -> None:
    flags: dict[str, FlagValue] = {"max-model-len": 8192, "max-num-batched-tokens": 8192}
    shape, sheet = a_public_model(model), find_gpu(gpu)
    plan = plan_memory(shape, sheet, memory_demand(shape, sheet, EngineConfig(flags=flags)))
    assert plan.kv_tokens == pytest.approx(tokens, rel=0.03)


def test_a_length_left_to_the_engine_is_the_longest_that_fits() -> None:
    setup = resolve(load_shape("llama-70b"), "H200", EngineConfig(flags={"quantization": "fp8", "max-model-len": -1}))
    assert setup.max_model_len == 131072
    tight = {"quantization": "fp8", "max-model-len": "auto", "gpu-memory-utilization": 0.6}
    shorter = resolve(load_shape("llama-70b"), "H200", EngineConfig(flags=tight))
    assert shorter.memory.kv_tokens - 16 < shorter.max_model_len <= shorter.memory.kv_tokens


@pytest.mark.parametrize(("text", "number"), [("32k", 32000), ("32K", 32768), ("0.9m", 900_000), ("8192", 8192)])
def test_lengths_may_be_written_as_vllm_takes_them(text: str, number: int) -> None:
    shape, gpu = load_shape("llama-8b"), find_gpu("H200")
    assert memory_demand(shape, gpu, EngineConfig(flags={"max-model-len": text})).max_model_len == number


@pytest.mark.parametrize("text", ["1.5K", "k", "12x", "-3k", ""])
def test_other_short_forms_are_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="max-model-len"):
        an_engine("llama-8b", {"max-model-len": text})


def test_heads_that_cannot_be_split_are_kept_and_read_by_every_gpu() -> None:
    shape = a_public_model("Qwen3-30B-A3B")
    one, four, eight = (shape.kv_bytes_per_gpu(2, tensor) for tensor in (1, 4, 8))
    assert one == 4 * four == 4 * eight
    costs = [
        resolve(shape, "H200", EngineConfig(flags={"max-model-len": 8192, "tensor-parallel-size": t}), a_profile()).cost
        for t in (4, 8)
    ]
    assert costs[0].kv_token_s == costs[1].kv_token_s


def test_a_latent_is_kept_whole_by_every_gpu() -> None:
    shape = a_public_model("DeepSeek-V3")
    assert shape.kv_bytes_per_gpu(2, 8) == shape.kv_bytes_per_gpu(2, 1) == 61 * 576 * 2


@pytest.mark.parametrize("flags", [{DP: 2}, {"cpu-offload-gb": 8}])
def test_what_is_not_modelled_has_no_prediction(flags: dict[str, FlagValue]) -> None:
    with pytest.raises(NotModelled, match="no prediction"):
        an_engine("llama-8b", flags)
