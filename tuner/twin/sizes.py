"""Whether what a config.json says of sizes can be meant: whole numbers, within reach, that go together.

Python reads `true`, `1.5` and `"32"` as numbers where it is let; a size made of them is wrong and looks right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_DEEPEST = 10_000
_LARGEST = 10**9
LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
"""Keys under which configurations name their longest sequence, as vLLM reads them."""
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers")
"""Keys under which they name the number of their layers, the first that is given."""
_POSITIVE_KEYS = (
    "hidden_size n_embd vocab_size num_attention_heads n_head num_key_value_heads head_dim embed_dim depth "
    "kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim mamba_num_heads mamba_head_dim mamba_n_heads "
    "mamba_d_head mamba_d_state mamba_d_conv mamba_expand ssm_state_size linear_num_key_heads "
    "linear_num_value_heads linear_key_head_dim linear_value_head_dim linear_conv_kernel_dim "
    "full_attention_interval spatial_merge_size out_hidden_size attn_layer_period expert_layer_period "
    "word_embed_proj_dim"
)
_NATURAL_KEYS = (
    "intermediate_size ffn_dim n_inner intermediate_size_mlp moe_intermediate_size num_local_experts num_experts "
    "n_routed_experts moe_num_experts num_experts_per_tok experts_per_token moe_k moe_topk n_shared_experts "
    "num_shared_experts num_shared_expert moe_num_shared_experts shared_expert_intermediate_size "
    "shared_intermediate_size moe_shared_expert_intermediate_size first_k_dense_replace moe_layer_start_index "
    "decoder_sparse_step interleave_moe_layer_step moe_layer_interval q_lora_rank sliding_window "
    "attention_chunk_size n_groups mamba_n_groups attn_layer_offset expert_layer_offset"
)
_POSITIVE = frozenset((*_POSITIVE_KEYS.split(), *LENGTHS, *DEPTHS)) - {"max_target_positions"}  # a tower's, if any
_NATURAL = frozenset(_NATURAL_KEYS.split())
_DEPTHS = (*DEPTHS, "depth")


def check_sizes(config: Mapping[str, Any]) -> None:
    """Raise ValueError where a size is no whole number within reach, or a list of layers is of another length.

    A key that is left out or null is the class's default; a list of numbers has one for each layer.
    """
    for key, value in config.items():
        if key in _POSITIVE or key in _NATURAL:
            for each in value if value and isinstance(value, list) else (value,):
                _check_size(key, each)
    for key in ("mlp_only_layers", "attn_layer_indices"):
        _check_indices(key, config.get(key))
    _check_switch(config.get("tie_word_embeddings"))
    _check_layer_types(config)


def _check_size(key: str, value: object) -> None:
    low, high = (1 if key in _POSITIVE else 0), (_DEEPEST if key in _DEPTHS else _LARGEST)
    if value is not None and not (_is_whole(value) and low <= value <= high):  # type: ignore[operator]
        raise ValueError(f"{key} is {str(value)[:40]!r}, a whole number from {low} to {high:,} is needed")


def _is_whole(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value) and value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _check_indices(key: str, value: object) -> None:
    if value is not None and not (isinstance(value, list) and all(_is_whole(each) for each in value)):
        raise ValueError(f"{key} is no list of whole numbers")


def _check_switch(value: object) -> None:
    if not (value is None or isinstance(value, bool)):
        raise ValueError(f"tie_word_embeddings is {value!r}, true or false is needed")


def _check_layer_types(config: Mapping[str, Any]) -> None:
    kinds = config.get("layer_types")
    if kinds is None:
        return
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ValueError("layer_types is no list of names")
    count = next((config[key] for key in _DEPTHS if config.get(key) is not None), len(kinds))
    if len(kinds) != count:
        raise ValueError(f"layer_types names {len(kinds)} layers, there are {count}")
