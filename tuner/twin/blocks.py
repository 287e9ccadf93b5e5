"""Layers of transformers as their configurations describe them: grouped-query and latent attention, MLPs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tuner.twin.layers import LayerGroup
from tuner.twin.sizes import DEPTHS, LENGTHS

Config = Mapping[str, Any]


class Mlp(NamedTuple):
    """The feed-forward part of one layer; weights."""

    dense: int = 0
    expert: int = 0
    experts: int = 0
    experts_per_token: int = 0


def plain(config: Config, *, mlp_matrices: int = 3) -> dict[str, Any]:
    """Return the fields of a model of equal dense layers; some of them may slide over a window."""
    hidden, inner = first(config, "hidden_size", "n_embd"), first(config, "intermediate_size", "ffn_dim", "n_inner")
    dense = Mlp(mlp_matrices * hidden * inner)
    layers = [layer(attention(config, window), dense) for window in windows(config)]
    return common(config, inner) | stacked(layers)


def mixture(config: Config) -> dict[str, Any]:
    """Return the fields of a model with routed experts behind grouped-query attention."""
    layers = [
        layer(attention(config, window), mlp)
        for window, mlp in zip(windows(config), mlps(config, depth(config)), strict=True)
    ]
    return common(config, expert_width(config)) | stacked(layers)


def latent(config: Config) -> dict[str, Any]:
    """Return the fields of a model with multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    rank, rope = int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"])
    query, value = int(config["qk_nope_head_dim"]) + rope, int(config["v_head_dim"])
    squeezed = config.get("q_lora_rank")
    asks = heads * query * hidden if not squeezed else squeezed * (hidden + heads * query)
    weights = asks + hidden * (rank + rope) + rank * heads * (query - rope + value) + heads * value * hidden
    flops = 2 * heads * (query + value)
    mixer = LayerGroup(count=1, attention=weights, kv_values=rank + rope, pair_flops=flops, latent=True)
    layers = [layer(mixer, mlp) for mlp in mlps(config, depth(config))]
    return common(config, expert_width(config)) | stacked(layers)


def attention(config: Config, window: int | None = None, *, gated: bool = False) -> LayerGroup:
    """Return one layer's grouped-query attention; `gated` adds a gate as wide as the query.

    Raises ValueError where the heads do not go together.
    """
    hidden, heads = first(config, "hidden_size", "n_embd"), first(config, "num_attention_heads", "n_head")
    keys = int(config.get("num_key_value_heads") or heads)
    if heads % keys:
        raise ValueError(f"{heads} attention heads cannot share {keys} heads of keys and values")
    width = int(config.get("head_dim") or hidden // heads)
    if width == 0:
        raise ValueError(f"{heads} attention heads have no width in a hidden size of {hidden}")
    return LayerGroup(
        count=1,
        attention=hidden * width * ((3 if gated else 2) * heads + 2 * keys),
        kv_values=2 * keys * width,
        kv_heads=keys,
        pair_flops=4 * heads * width,
        window=window,
    )


def layer(mixer: LayerGroup, mlp: Mlp) -> LayerGroup:
    """Return one layer of a mixer and an MLP."""
    return mixer.evolve(mlp=mlp.dense, expert=mlp.expert, experts=mlp.experts, experts_per_token=mlp.experts_per_token)


def stacked(layers: Iterable[LayerGroup]) -> dict[str, Any]:
    """Return equal layers as one group each, in order of appearance, and of each layer its group."""
    given = list(layers)
    counts = Counter(given)
    numbers = {one: number for number, one in enumerate(counts)}
    groups = tuple(one.evolve(count=count) for one, count in counts.items())
    return {"layers": groups, "order": tuple(numbers[one] for one in given) if len(groups) > 1 else ()}


def mlps(config: Config, count: int) -> list[Mlp]:
    """Return the MLP of every layer of a mixture: routed, or dense where the configuration leaves experts out."""
    sparse = _sparse_layers(config)
    hidden = int(config["hidden_size"])
    dense = Mlp(3 * hidden * int(config.get("intermediate_size_mlp") or config["intermediate_size"]))
    routed = routed_mlp(config)
    return [routed if sparse(index) else dense for index in range(count)]


def routed_mlp(config: Config) -> Mlp:
    """Return a layer of routed experts with its router and what is shared by all tokens."""
    hidden = int(config["hidden_size"])
    experts = first(config, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    per_token = first(config, "num_experts_per_tok", "experts_per_token", "moe_k", "moe_topk")
    shared = 3 * hidden * _shared_width(config)
    return Mlp(shared + hidden * experts, 3 * hidden * expert_width(config), experts, per_token)


def expert_width(config: Config) -> int:
    """Return the width of one expert's MLP (of a dense one where there are none)."""
    return first(config, "moe_intermediate_size", "intermediate_size")


def _shared_width(config: Config) -> int:
    given = config.get("shared_expert_intermediate_size") or config.get("shared_intermediate_size")
    if given:
        return int(given)
    if "intermediate_size_mlp" in config:  # Llama 4: one shared expert beside the routed ones
        return expert_width(config)
    number = next((config[key] for key in _SHARED if config.get(key)), 0)
    return int(number) * expert_width(config)


_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")


def _sparse_layers(config: Config) -> Callable[[int], bool]:
    first_sparse = int(config.get("first_k_dense_replace") or config.get("moe_layer_start_index") or 0)
    step = int(
        config.get("decoder_sparse_step")
        or config.get("interleave_moe_layer_step")
        or config.get("moe_layer_interval")
        or 1
    )
    dense = frozenset(config.get("mlp_only_layers") or ())
    return lambda index: index >= first_sparse and index not in dense and (index + 1) % step == 0


def windows(config: Config) -> list[int | None]:
    """Return for every layer how far back it looks, None for everything."""
    count, window = depth(config), _window(config)
    if window is None:
        return [None] * count
    kinds: Sequence[str] | None = config.get("layer_types")
    if kinds is not None:
        return [window if "sliding" in kind or "chunked" in kind else None for kind in kinds]
    pattern = config.get("sliding_window_pattern") or config.get("alternates") or 0
    if isinstance(pattern, str):  # EXAONE 4: L looks back, G sees everything
        return [window if pattern[index % len(pattern)] == "L" else None for index in range(count)]
    period = int(pattern)
    return [window if not period or (index + 1) % period else None for index in range(count)]


def _window(config: Config) -> int | None:
    window = config.get("sliding_window") or config.get("attention_chunk_size")
    if not window or config.get("use_sliding_window", True) is False:
        return None
    return int(window) if int(window) < longest(config) else None


def common(config: Config, inner: int) -> dict[str, Any]:
    """Return the fields every shape has."""
    return {
        "hidden_size": first(config, "hidden_size", "n_embd"),
        "num_attention_heads": first(config, "num_attention_heads", "n_head"),
        "intermediate_size": inner,
        "vocab_size": int(config["vocab_size"]),
        "max_position_embeddings": longest(config),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
    }


def longest(config: Config) -> int:
    """Return the longest sequence vLLM takes: `_get_and_verify_max_len` of `vllm/config/model.py`.

    The shortest of the keys that name a length, `model_max_length` (Command-R, Baichuan) before all; without any 2,048.
    YaRN counts from the original length; llama3, longrope and mrope have their factor in the length already.
    """
    named = [int(config[key]) for key in LENGTHS if config.get(key) is not None]
    length = int(config.get("model_max_length") or min(named, default=_NO_LENGTH))
    return scaled_length(length, config.get("rope_parameters") or config.get("rope_scaling"), config)


def scaled_length(length: int, scaling: Any, config: Config) -> int:
    """Return a length in tokens with the factor of its rotary embedding, which `scaling` describes."""
    scaling = scaling or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind in _IN_LENGTH or "gemma3" in str(config.get("model_type", "")):
        return length
    if kind == "yarn":
        length = int(scaling.get("original_max_position_embeddings") or length)
    return int(length * float(scaling.get("factor") or 1.0))


_NO_LENGTH = 2048
"""What vLLM takes where a configuration names no length."""
_IN_LENGTH = ("default", "su", "longrope", "llama3", "mrope", "proportional")


def depth(config: Config) -> int:
    """Return the number of layers."""
    return first(config, *DEPTHS)


def first(config: Config, *keys: str) -> int:
    """Return the first of the keys that is given, as a whole number. Raises KeyError naming the first."""
    found = next((config[key] for key in keys if config.get(key) is not None), None)
    if found is None:
        raise KeyError(keys[0])
    return int(found)
