"""Does it fit, how many KV tokens, and what vLLM's defaults make of missing flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.domain.engine import EngineConfig, FlagValue
from controlplane.domain.errors import InvalidInput
from tuner.twin.gpus import find_gpu
from tuner.twin.setup import DoesNotFit, EngineSetup, resolve
from tuner.twin.shapes import load_shape, parse_shape

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
    with pytest.raises(InvalidInput, match="llama-8b"):
        load_shape("/nowhere/at-all")
    with pytest.raises(InvalidInput, match="hidden_size"):
        parse_shape({"model_type": "llama"}, name="broken")


@pytest.mark.parametrize(
    ("name", "known"),
    [("NVIDIA H200 141GB", "H200"), ("nvidia-h100-80gb-hbm3", "H100"), ("a100", "A100-80"), ("L40S", "L40S")],
)
def test_gpus_are_found_under_the_names_drivers_give_them(name: str, known: str) -> None:
    assert find_gpu(name).name == known


def test_a_model_folder_is_read(tmp_path: Path) -> None:
    config = {
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
    assert (shape.head_dim, shape.num_key_value_heads, shape.experts, shape.quantization) == (64, 32, 8, "awq")
    assert shape.active_linear_params < shape.linear_params
