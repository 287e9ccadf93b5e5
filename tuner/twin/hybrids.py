"""Layers that keep a state of fixed size instead of keys and values: Mamba, Mamba-2 and gated delta networks."""

from __future__ import annotations

import math
from typing import Any

from tuner.twin.blocks import Config, Mlp, attention, common, depth, expert_width, layer, routed_mlp, stacked
from tuner.twin.layers import LayerGroup


def gated_delta_hybrid(config: Config) -> dict[str, Any]:
    """Qwen3-Next: gated attention every `full_attention_interval` layers, gated delta networks between."""
    every, mlp = int(config.get("full_attention_interval", 4)), routed_mlp(config)
    full, linear = attention(config, gated=True), _delta(config)
    layers = [layer(full if (index + 1) % every == 0 else linear, mlp) for index in range(depth(config))]
    return common(config, expert_width(config)) | stacked(layers)


def jamba(config: Config) -> dict[str, Any]:
    """Jamba (arXiv 2403.19887): attention and experts each come once per period."""
    hidden = int(config["hidden_size"])
    dense = Mlp(3 * hidden * int(config["intermediate_size"]))
    routed = routed_mlp(config) if int(config["num_experts"]) > 1 else dense
    full, state = attention(config), _mamba(config)
    layers = [
        layer(
            full if index % int(config["attn_layer_period"]) == int(config["attn_layer_offset"]) else state,
            routed if index % int(config["expert_layer_period"]) == int(config["expert_layer_offset"]) else dense,
        )
        for index in range(depth(config))
    ]
    return common(config, int(config["intermediate_size"])) | stacked(layers)


def nemotron_hybrid(config: Config) -> dict[str, Any]:
    """Nemotron-H: `M` a state-space layer, `*` attention, `-` an MLP without gate, `E` experts, each its own layer."""
    inner = int(config["intermediate_size"])
    kinds = {
        "M": _mamba2(
            config, heads="mamba_num_heads", width="mamba_head_dim", state="ssm_state_size", groups="n_groups"
        ),
        "*": attention(config),
        "-": LayerGroup(count=1, mlp=2 * int(config["hidden_size"]) * inner),
    }
    if config.get("n_routed_experts"):
        kinds["E"] = _ungated_experts(config)
    return common(config, inner) | stacked(kinds[kind] for kind in config["hybrid_override_pattern"])


def _ungated_experts(config: Config) -> LayerGroup:
    """Nemotron 3: routed experts of two matrices each, and one shared by all tokens. Raises ValueError for others."""
    if config.get("moe_latent_size"):
        raise ValueError("experts behind a latent projection (moe_latent_size)")
    hidden, experts = int(config["hidden_size"]), int(config["n_routed_experts"])
    shared = int(config.get("n_shared_experts") or 0) and int(config["moe_shared_expert_intermediate_size"])
    return LayerGroup(
        count=1,
        mlp=2 * hidden * shared + hidden * experts,
        expert=2 * hidden * expert_width(config),
        experts=experts,
        experts_per_token=int(config["num_experts_per_tok"]),
    )


def granite_hybrid(config: Config) -> dict[str, Any]:
    """Granite 4 and Bamba: Mamba-2 with some attention layers; experts where there are any, a shared MLP always."""
    hidden, shared = int(config["hidden_size"]), config.get("shared_intermediate_size")
    mlp = (
        routed_mlp(config) if config.get("num_local_experts") else Mlp(3 * hidden * int(shared or expert_width(config)))
    )
    state = _mamba2(config, heads="mamba_n_heads", width="mamba_d_head", state="mamba_d_state", groups="mamba_n_groups")
    full = attention(config)
    kinds = config.get("layer_types") or config.get("layers_block_type")
    if kinds is None:
        at = frozenset(config["attn_layer_indices"])
        kinds = ["attention" if index in at else "mamba" for index in range(depth(config))]
    layers = [layer(full if kind == "attention" else state, mlp) for kind in kinds]
    return common(config, int(shared or expert_width(config))) | stacked(layers)


def _delta(config: Config) -> LayerGroup:
    hidden = int(config["hidden_size"])
    key_heads, value_heads = int(config["linear_num_key_heads"]), int(config["linear_num_value_heads"])
    key, value = int(config.get("linear_key_head_dim", 128)), int(config.get("linear_value_head_dim", 128))
    keys, values = key_heads * key, value_heads * value
    kernel = int(config.get("linear_conv_kernel_dim", 4))
    return LayerGroup(
        count=1,
        attention=hidden * (2 * keys + 2 * values + 2 * value_heads) + values * hidden + kernel * (2 * keys + values),
        state_values=value_heads * key * value + (kernel - 1) * (2 * keys + values),
    )


def _mamba(config: Config) -> LayerGroup:
    hidden, state = int(config["hidden_size"]), int(config.get("mamba_d_state", 16))
    inner, kernel = hidden * int(config.get("mamba_expand", 2)), int(config.get("mamba_d_conv", 4))
    given = config.get("mamba_dt_rank", "auto")
    rank = math.ceil(hidden / 16) if given == "auto" else int(given)
    return LayerGroup(
        count=1,
        attention=3 * hidden * inner + inner * (2 * rank + 2 * state) + inner * (kernel + state),
        state_values=inner * (state + kernel - 1),
    )


def _mamba2(config: Config, *, heads: str, width: str, state: str, groups: str) -> LayerGroup:
    hidden, count = int(config["hidden_size"]), int(config[heads])
    inner, mixed = count * int(config[width]), 2 * int(config.get(groups) or 1) * int(config[state])
    return LayerGroup(
        count=1,
        attention=hidden * (2 * inner + mixed + count) + inner * hidden,
        state_values=inner * int(config[state]) + 3 * (inner + mixed),
    )
