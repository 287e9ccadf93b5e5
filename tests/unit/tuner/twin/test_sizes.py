"""Sizes that cannot be meant, files that are no configuration, and keys as their authors write them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import InvalidInput
from tests.unit.tuner.twin.builders import a_public_model, public_models
from tuner.twin.checkpoints import read_checkpoint
from tuner.twin.corrected import stand_in_shape
from tuner.twin.shapes import UnknownModel, guess_shape, load_shape, parse_shape

PUBLIC = {name: each["config"] for name, each in public_models().items()}
LLAMA = PUBLIC["Llama-3.1-8B"]
_WHOLE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size", "head_dim")


@pytest.mark.parametrize("value", ["4096", "", [], {}, 0, -4096, 1.5, True, float("inf"), float("nan"), 1e300, 10**12])
@pytest.mark.parametrize("key", [*_WHOLE, "max_position_embeddings"])
def test_a_size_that_is_no_whole_number_within_reach_is_named(key: str, value: Any) -> None:
    """`true` layers made a model of one, "4096" of a wide one, and Infinity a traceback."""
    with pytest.raises(UnknownModel, match=f"{key} is"):
        parse_shape({**LLAMA, key: value}, name="odd")


@pytest.mark.parametrize("key", ["num_local_experts", "num_experts_per_tok", "intermediate_size", "sliding_window"])
@pytest.mark.parametrize("value", ["8", -1, 1.5, True, float("inf"), 10**12])
def test_a_count_of_experts_is_held_to_the_same(key: str, value: Any) -> None:
    with pytest.raises(UnknownModel, match=f"{key} is"):
        parse_shape({**PUBLIC["Mixtral-8x7B"], key: value}, name="odd")


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("Llama-3.1-8B", {"num_key_value_heads": 3}),
        ("Llama-3.1-8B", {"num_key_value_heads": 64}),
        ("Llama-3.1-8B", {"hidden_size": 16}),
        ("Llama-3.1-8B", {"layer_types": ["full_attention"] * 3}),
        ("Llama-3.1-8B", {"layer_types": "full_attention"}),
        ("Llama-3.1-8B", {"tie_word_embeddings": "false"}),
        ("Mixtral-8x7B", {"num_experts_per_tok": 9}),
        ("Mixtral-8x7B", {"num_local_experts": 0}),
        ("Mixtral-8x7B", {"mlp_only_layers": "0,1"}),
        ("Qwen3-30B-A3B", {"moe_intermediate_size": None}),
        ("DeepSeek-V3", {"moe_intermediate_size": None}),
        ("DeepSeek-V3", {"kv_lora_rank": 0}),
        ("OPT-125M", {"word_embed_proj_dim": 512}),
    ],
)
def test_sizes_that_do_not_go_together_leave_the_model_unknown(name: str, changed: dict[str, Any]) -> None:
    with pytest.raises(UnknownModel):
        parse_shape({**PUBLIC[name], **changed}, name="odd")


@pytest.mark.parametrize("names", [[["LlamaForCausalLM"]], [{}], [None], [1], "LlamaForCausalLM", {}])
def test_architectures_that_are_no_list_of_names_are_unknown(names: Any) -> None:
    with pytest.raises(UnknownModel):
        parse_shape({**LLAMA, "architectures": names, "model_type": "odd"}, name="odd")


def test_the_first_architecture_counts_because_the_engine_may_know_it() -> None:
    with pytest.raises(UnknownModel, match="NobodyKnows"):
        parse_shape({**LLAMA, "architectures": ["NobodyKnowsForCausalLM", "LlamaForCausalLM"]}, name="two")
    assert parse_shape({**LLAMA, "architectures": ["LlamaForCausalLM", "Other"]}, name="two").params > 8e9


@pytest.mark.parametrize("text", [["a"], "llama", 7, True])
@pytest.mark.parametrize("read", [parse_shape, guess_shape])
def test_a_text_model_that_is_no_object_is_unknown(read: Any, text: Any) -> None:
    with pytest.raises(UnknownModel):
        read({"architectures": ["LlavaForConditionalGeneration"], "text_config": text}, name="odd")


def _huge(file: Path) -> None:
    file.touch()
    os.truncate(file, 2**30)  # takes no room


def _nested(file: Path) -> None:
    file.write_text("[" * 200_000)


@pytest.mark.parametrize("write", [_huge, _nested, os.mkfifo, Path.mkdir])
def test_a_file_that_is_no_configuration_is_refused_without_reading_it(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "config.json")
    with pytest.raises(UnknownModel):
        load_shape(str(tmp_path))
    assert stand_in_shape(str(tmp_path), {}) is None


def test_an_embedding_tied_by_the_models_class_is_counted_once() -> None:
    """transformers leaves out of config.json what is the class's default: SmolLM3's came out 9 % too large."""
    tied = {**PUBLIC["SmolLM3-3B"], "tie_word_embeddings": True}
    assert "tie_word_embeddings" not in PUBLIC["SmolLM3-3B"]
    assert parse_shape(PUBLIC["SmolLM3-3B"], name="s").params == parse_shape(tied, name="s").params


def test_an_embedding_tied_by_the_whole_is_tied_in_the_part() -> None:
    text = {key: value for key, value in LLAMA.items() if key != "tie_word_embeddings"}
    around = {"architectures": ["LlavaForConditionalGeneration"], "text_config": text}
    assert parse_shape({**around, "tie_word_embeddings": True}, name="a").tie_word_embeddings
    assert not parse_shape(around, name="a").tie_word_embeddings


def test_three_of_four_layers_of_llama_4_look_at_a_chunk() -> None:
    """Its config.json lists no layers: all 48 were taken for chunked, and no length was too long."""
    scout = PUBLIC["Llama-4-Scout"]
    text = {**scout.get("text_config", scout), "attention_chunk_size": 8192, "no_rope_layers": []}
    shape = parse_shape({**scout, "text_config": text} if "text_config" in scout else text, name="scout")
    assert [(group.count, group.window) for group in shape.layers] == [(36, 8192), (12, None)]


@pytest.mark.parametrize(
    ("name", "longest"),
    [("Command-R-plus", 131072), ("Baichuan2-13B", 4096), ("Command-R7B", 132096), ("Kimi-K2-Thinking", 262144)],
)
def test_the_longest_request_is_by_the_key_that_vllm_takes(name: str, longest: int) -> None:
    assert parse_shape(PUBLIC[name], name=name).max_position_embeddings == longest


def test_without_any_length_it_is_vllms_default() -> None:
    assert parse_shape({**LLAMA, "max_position_embeddings": None}, name="short").max_position_embeddings == 2048


def packed(**group: Any) -> dict[str, Any]:
    weights = {"num_bits": 4, "type": "int", "group_size": 128}
    return {"targets": ["Linear"], "weights": weights, "input_activations": None, **group}


def compressed(*groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = {f"group_{number}": group for number, group in enumerate(groups)}
    return {"quant_method": "compressed-tensors", "config_groups": named, **more}


def test_what_no_target_names_stays_in_16_bits() -> None:
    found = read_checkpoint(compressed(packed(targets=["re:.*mlp.*"])), layers=4)
    assert (found.plain_attention, found.plain_mlp, found.plain_experts) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "config",
    [
        compressed(packed(), packed(weights={"num_bits": 8, "type": "float", "group_size": None})),
        compressed(packed(weights=None)),
        compressed(packed(), ignore={"lm_head": True}),
        compressed(packed(), ignore=["re:((("]),
        compressed(packed(), ignore=["re:(.*.*.*.*)*x"]),  # would be matched for ever
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"+:.*q_proj": {"bits": 8}}},
        ["fp8"],
        "fp8",
    ],
)
def test_layers_stored_in_different_or_unreadable_ways_leave_the_model_unknown(config: Any) -> None:
    with pytest.raises(UnknownModel):
        parse_shape({**LLAMA, "quantization_config": config}, name="mixed")


@pytest.mark.parametrize(
    ("ignored", "attention", "mlp"),
    [
        (["re:.*down_proj"], 0.0, 1 / 3),
        ("model.layers.0.mlp.down_proj", 0.0, 1 / 12),
        (["language_model.model.layers.1.self_attn.o_proj"], 0.1, 0.0),
        (["model.language_model.layers.*.mlp.gate_proj"], 0.0, 1 / 3),
        (["backbone.layers.2.mixer.in_proj", "backbone.layers.2.mixer.out_proj"], 0.2, 0.0),
        (["visual.blocks.0.attn.qkv", "vision_tower.layers.0.mlp.down_proj"], 0.0, 0.0),
        (["model.layers.0.mlp.gate", "lm_head"], 0.0, 0.0),
    ],
)
def test_of_a_layer_only_what_is_listed_is_left_out(ignored: Any, attention: float, mlp: float) -> None:
    found = read_checkpoint({"quant_method": "fp8", "modules_to_not_convert": ignored}, layers=4)
    assert [found.plain_attention, found.plain_mlp] == pytest.approx([attention, mlp])


def test_a_scale_that_is_itself_quantized_takes_less() -> None:
    """Llama-3.1-8B in bitsandbytes' 4 bits is a file of 5.70 GB."""
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}
    shape = parse_shape(json.loads(json.dumps({**LLAMA, "quantization_config": stored})), name="bnb")
    gigabytes = (shape.linear_params * shape.checkpoint.stored_bits / 8 + 2 * shape.vocab_params * 2) / 1e9
    assert gigabytes == pytest.approx(5.70, rel=0.01)


@pytest.mark.parametrize(
    ("said", "attention", "mlp"),
    [
        ({"extra_config": {f"model.layers.{n}.mlp.down_proj": {"bits": 16} for n in range(4)}}, 0.0, 1 / 3),
        ({"extra_config": {r".*self_attn.*": {"bits": 16, "data_type": "float"}}}, 1.0, 0.0),
        ({"extra_config": {"model.layers.0.mlp.down_proj": {"bits": 4, "group_size": 128}}}, 0.0, 0.0),
        ({"modules_in_block_to_quantize": [["self_attn.q_proj", "self_attn.o_proj"], ["mlp.up_proj"]]}, 0.2, 2 / 3),
    ],
)
def test_what_auto_round_and_gptq_leave_out_of_blocks_is_counted(
    said: dict[str, Any], attention: float, mlp: float
) -> None:
    found = read_checkpoint({"quant_method": "auto-round", "bits": 4, "group_size": 128, **said}, layers=4)
    assert (found.plain_attention, found.plain_mlp) == pytest.approx((attention, mlp))


def test_modules_in_other_bits_than_the_rest_are_unknown() -> None:
    said = {"quant_method": "auto-round", "bits": 4, "extra_config": {"model.layers.0.mlp.down_proj": {"bits": 8}}}
    with pytest.raises(InvalidInput, match="8 bits"):
        read_checkpoint(said, layers=4)


PIXTRAL = {
    **{"dim": 5120, "n_layers": 40, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8},
    **{"rope_theta": 1e9, "norm_eps": 1e-5, "vocab_size": 131072},
    "vision_encoder": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 16},
}


def test_mistrals_own_file_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps(PIXTRAL))
    shape = load_shape(str(tmp_path))
    assert shape.params == a_public_model("Pixtral-12B").params
    assert (shape.kv_bytes_per_token(2), shape.max_position_embeddings) == (163840, 128_000)


@pytest.mark.parametrize(
    "more",
    [{"moe": {"num_experts": 8}}, {"q_lora_rank": 1536}, {"quantization": {}}, {"vision_encoder": 3}, {"dim": 0}],
)
def test_mistrals_own_file_of_another_model_is_unknown(tmp_path: Path, more: dict[str, Any]) -> None:
    (tmp_path / "params.json").write_text(json.dumps({**PIXTRAL, **more}))
    with pytest.raises(UnknownModel):
        load_shape(str(tmp_path))


@pytest.mark.parametrize("model_type", ["llava", "mistral3"])
def test_only_a_wrapper_whose_class_has_defaults_may_leave_sizes_out(model_type: str) -> None:
    text = {"model_type": "llama", "vocab_size": 32064}
    config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": model_type, "text_config": text}
    if model_type == "llava":
        assert parse_shape(config, name="llava").hidden_size == 4096
    else:
        with pytest.raises(UnknownModel, match="is missing"):
            parse_shape(config, name="other")
    with pytest.raises(UnknownModel, match="is missing"):
        parse_shape({"architectures": ["LlamaForCausalLM"], **text}, name="alone")
