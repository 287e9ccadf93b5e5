"""Sizes against published ones, and an architecture nobody knows."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from tests.unit.tuner.twin.builders import a_public_model, public_models
from tuner.twin.architectures import ARCHITECTURES
from tuner.twin.checkpoints import read_checkpoint
from tuner.twin.layers import Trait
from tuner.twin.setup import kv_bits
from tuner.twin.shapes import UnknownModel, load_shape, parse_shape

PUBLIC = public_models()
LLAMA = PUBLIC["Llama-3.1-8B"]["config"]


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_and_cache_are_the_published_ones(name: str) -> None:
    """Counts of the models' cards and papers; "active" with or without the embedding, as each card counts."""
    published, shape = PUBLIC[name], a_public_model(name)
    assert shape.params / 1e9 == pytest.approx(published["params_b"], rel=0.02)
    assert shape.kv_bytes_per_token(2) == published["kv_bytes_per_token"]
    assert shape.max_position_embeddings == published.get("longest", shape.max_position_embeddings)
    if "active_b" in published:
        embedding = shape.vocab_params if published["with_embedding"] else 0
        assert (shape.active_params + embedding) / 1e9 == pytest.approx(published["active_b"], rel=0.02)


@pytest.mark.parametrize("name", PUBLIC)
def test_no_token_meets_more_weights_than_there_are(name: str) -> None:
    shape = a_public_model(name)
    assert 0 < shape.active_routed_params + 1 <= shape.routed_params + 1
    assert shape.active_linear_params <= shape.linear_params
    assert shape.active_params <= shape.params
    assert (shape.active_linear_params < shape.linear_params) is (Trait.MIXTURE in shape.traits)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_a_sequence_never_needs_more_than_all_its_tokens_and_its_state(name: str, tensor: int) -> None:
    shape = a_public_model(name)
    whole = shape.kv_bytes_per_gpu(2, tensor) * 100_000 + 2 * shape.state_values / tensor
    needed = shape.kv_bytes_of(100_000, 2, tensor, step_tokens=2048)
    assert 0 < needed <= whole * (1 + 1e-9)
    assert (needed < whole * 0.999) is (shape.window is not None)


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("Llama-3.1-8B", ()),
        ("Mixtral-8x7B", (Trait.MIXTURE,)),
        ("DeepSeek-V3", (Trait.MIXTURE, Trait.LATENT)),
        ("Gemma-3-27B", (Trait.SLIDING,)),
        ("Gemma-3-1B", (Trait.SLIDING,)),  # one head of keys and values is no latent
        ("Kimi-VL-A3B", (Trait.MIXTURE, Trait.LATENT)),
        ("InternVL3.5-30B-A3B", (Trait.MIXTURE,)),
        ("Jamba-Reasoning-3B", (Trait.STATE,)),
        ("Nemotron-3-Nano-30B-A3B", (Trait.MIXTURE, Trait.STATE)),
        ("gpt-oss-20b", (Trait.MIXTURE, Trait.SLIDING)),
        ("Qwen3-Next-80B-A3B", (Trait.MIXTURE, Trait.STATE)),
        ("Nemotron-H-8B", (Trait.STATE,)),
    ],
)
def test_what_sets_an_architecture_apart_is_said(name: str, traits: tuple[Trait, ...]) -> None:
    assert a_public_model(name).traits == traits


@given(st.text(min_size=1).filter(lambda name: name not in ARCHITECTURES))
def test_an_architecture_outside_the_table_has_no_size(name: str) -> None:
    with pytest.raises(UnknownModel):
        parse_shape({**LLAMA, "architectures": [name], "model_type": "llama"}, name="odd")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_key_that_is_missing_leaves_the_model_unknown_instead_of_small(name: str) -> None:
    config = PUBLIC[name]["config"]
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "moe_intermediate_size", "kv_lora_rank"):
        text = config.get("text_config", config)
        if key not in text:
            continue
        rest = {other: value for other, value in text.items() if other != key}
        broken = {**config, "text_config": rest} if "text_config" in config else rest
        try:
            shape = parse_shape(broken, name="broken")
        except UnknownModel:
            continue
        assert shape.active_linear_params <= shape.linear_params


@pytest.mark.parametrize("value", ["8192", [], {}, None, -1, 1.5, True])
@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "head_dim", "rope_scaling", "quantization_config"])
def test_odd_values_are_refused_or_read_but_never_crash(key: str, value: Any) -> None:
    with suppress(UnknownModel):
        assert parse_shape({**LLAMA, key: value}, name="odd").params > 0


def w4a16(**more: Any) -> dict[str, Any]:
    weights = {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}, **more}


@pytest.mark.parametrize(
    ("config", "bits", "stored", "computes"),
    [
        (w4a16(), 4, 4.125, 16),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4, 4.5, 4),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8, 8.0, 8),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, 8, 8.125, 16),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 4, 4.0, 16),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4, 4.15625, 16),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8, 8.0, 8),
        ({"quant_method": "mxfp4"}, 4, 4.25, 16),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4, 4.5, 16),
        (None, 16, 16.0, 16),
    ],
)
def test_checkpoints_are_read_in_bits(config: Any, bits: int, stored: float, computes: int) -> None:
    found = read_checkpoint(config, layers=4)
    assert (found.bits, found.stored_bits, found.computes_in) == (bits, stored, computes)


MODELOPTS_FILE: dict[str, Any] = {
    "producer": {"name": "modelopt", "version": "0.23.0"},
    "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]},
}


def a_folder(path: Path, config: dict[str, Any], beside: str | None = None) -> str:
    (path / "config.json").write_text(json.dumps(config))
    if beside is not None:
        (path / "hf_quant_config.json").write_text(beside)
    return str(path)


def test_a_checkpoint_quantized_in_modelopts_own_file_is_not_taken_for_16_bits(tmp_path: Path) -> None:
    found = load_shape(a_folder(tmp_path, LLAMA, json.dumps(MODELOPTS_FILE))).checkpoint
    assert (found.method, found.bits, found.stored_bits, found.kv_bits) == ("modelopt", 4, 4.5, 8)


def test_what_config_json_says_of_quantization_goes_before_the_file_beside_it(tmp_path: Path) -> None:
    said = {**LLAMA, "quantization_config": {"quant_method": "fp8"}}
    assert load_shape(a_folder(tmp_path, said, json.dumps(MODELOPTS_FILE))).checkpoint.bits == 8


@pytest.mark.parametrize("beside", ["{", "[1]", '{"quantization": {}}', '{"producer": {"name": "another"}}'])
def test_a_file_beside_it_that_says_nothing_readable_leaves_the_model_unknown(tmp_path: Path, beside: str) -> None:
    with pytest.raises(UnknownModel):
        load_shape(a_folder(tmp_path, LLAMA, beside))


def test_older_compressed_tensors_call_it_compression_config() -> None:
    assert parse_shape({**LLAMA, "compression_config": w4a16()}, name="old").checkpoint.bits == 4


@pytest.mark.parametrize(
    ("config", "kv_bits"),
    [
        (w4a16(kv_cache_scheme={"num_bits": 8, "type": "float"}), 8),
        (w4a16(kv_cache_scheme=None), 16),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, 8),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": None}, 16),
        ({"quant_method": "fp8"}, 16),
    ],
)
def test_the_cache_that_a_checkpoint_was_calibrated_for_is_read(config: dict[str, Any], kv_bits: int) -> None:
    assert read_checkpoint(config, layers=4).kv_bits == kv_bits


def test_a_cache_algorithm_nobody_knows_leaves_the_model_unknown() -> None:
    with pytest.raises(UnknownModel, match="NVFP4"):
        parse_shape(
            {**LLAMA, "quantization_config": {**MODELOPTS_FILE, "quantization": {"kv_cache_quant_algo": "NVFP4"}}},
            name="odd",
        )


@pytest.mark.parametrize(
    ("flag", "bits"), [(None, 8), ("auto", 8), ("bfloat16", 16), ("fp8_e4m3", 8), ("int8_per_token_head", 8)]
)
def test_the_cache_is_as_the_checkpoint_has_it_unless_a_flag_says_otherwise(flag: str | None, bits: int) -> None:
    shape = parse_shape({**LLAMA, "quantization_config": MODELOPTS_FILE}, name="fp4")
    config = EngineConfig(flags={} if flag is None else {"kv-cache-dtype": flag})
    assert kv_bits(shape, config) == bits
    assert kv_bits(parse_shape(LLAMA, name="plain"), EngineConfig()) == 16


@pytest.mark.parametrize("flag", ["nvfp4", "int4_per_token_head", "turboquant_3bit_nc"])
def test_a_cache_type_of_other_bits_is_unknown_not_taken_for_16(flag: str) -> None:
    with pytest.raises(InvalidInput, match=flag):
        kv_bits(parse_shape(LLAMA, name="plain"), EngineConfig(flags={"kv-cache-dtype": flag}))


@pytest.mark.parametrize(
    ("ignore", "attention", "experts"),
    [
        (["lm_head"], 0.0, 0.0),
        (["re:.*self_attn.*"], 1.0, 0.0),
        (["model.layers.0.self_attn", "model.layers.1.self_attn"], 0.5, 0.0),
        (["*self_attn*", "lm_head"], 1.0, 0.0),
        (["model.layers.3"], 0.25, 0.25),
    ],
)
def test_layers_left_in_16_bits_are_counted(ignore: list[str], attention: float, experts: float) -> None:
    found = read_checkpoint(w4a16(ignore=ignore), layers=4)
    assert (found.plain_attention, found.plain_experts) == (attention, experts)


def test_a_quantization_nobody_knows_leaves_the_model_unknown() -> None:
    with pytest.raises(UnknownModel, match="wonder"):
        parse_shape({**LLAMA, "quantization_config": {"quant_method": "wonder"}}, name="odd")


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        (None, 32768),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "yarn", "factor": 2.0}, 65536),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 32768),
        ({"type": "longrope"}, 32768),
        ({"type": "dynamic", "factor": 2.0}, 65536),
    ],
)
def test_the_longest_request_counts_rope_scaling_as_vllm_does(scaling: Any, longest: int) -> None:
    config = {**PUBLIC["Qwen2.5-7B"]["config"], "rope_scaling": scaling}
    assert parse_shape(config, name="yarn").max_position_embeddings == longest


@pytest.mark.parametrize("wrapper", ["InternVLChatModel", "LlavaForConditionalGeneration"])
def test_a_wrapper_is_as_its_text_model_is_or_unknown(wrapper: str) -> None:
    """The same wrapper stands around dense models and mixtures; taken for dense, a mixture of 31 B was one of 4 B."""
    mixture = PUBLIC["Qwen3-30B-A3B"]["config"]
    found = parse_shape({"architectures": [wrapper], "text_config": mixture}, name="around")
    assert found.linear_params == a_public_model("Qwen3-30B-A3B").linear_params
    for unknown in ({"architectures": ["NobodyKnowsForCausalLM"]}, {"architectures": [], "model_type": "nobody"}):
        with pytest.raises(UnknownModel):
            parse_shape({"architectures": [wrapper], "text_config": {**mixture, **unknown}}, name="around")


@pytest.mark.parametrize("changed", [{"moe_topk": [8, 4] * 16}, {"use_cla": True}])
def test_layers_that_differ_from_each_other_are_no_shape_yet(changed: dict[str, Any]) -> None:
    with pytest.raises(UnknownModel):
        parse_shape({**PUBLIC["Hunyuan-A13B"]["config"], **changed}, name="hunyuan")


def test_experts_behind_a_latent_projection_are_no_shape_yet() -> None:
    with pytest.raises(UnknownModel, match="moe_latent_size"):
        parse_shape({**PUBLIC["Nemotron-3-Nano-30B-A3B"]["config"], "moe_latent_size": 1024}, name="nemotron")
