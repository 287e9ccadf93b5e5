"""Weights beside the text decoder: vision towers and their projections. They stay in 16 bits and take no KV cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gemma3": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27},
    "llama4": {"hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34},
    "qwen2_5_vl": {"hidden_size": 1280, "intermediate_size": 3420, "depth": 32},
    "qwen2_vl": {"embed_dim": 1280, "intermediate_size": 5120, "depth": 32},
}
"""What the classes take for keys a config.json leaves out."""
_TOWERS: Mapping[str, Mapping[str, int]] = {
    "pixtral": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24},
}
"""The same of a tower that is a class of its own (`PixtralVisionConfig`)."""
_TWICE_PROJECTED = ("llava", "llava_next", "pixtral")
_GATED = ("qwen2_5_vl", "mistral3")


def tower_params(raw: Mapping[str, Any], hidden: int) -> int:
    """Return the weights of the vision tower; 0 for a model of text alone. Raises KeyError where it cannot be sized."""
    given = raw.get("vision_config")
    if given is None:
        return 0
    kind = str(raw.get("model_type", ""))
    config = {**_DEFAULTS.get(kind, {}), **_TOWERS.get(str(given.get("model_type")), {}), **given}
    if kind.startswith("glm4v"):
        return _glm4v(config)
    width = int(config.get("embed_dim") or config["hidden_size"])
    count = int(config.get("depth") or config.get("num_hidden_layers") or config["num_layers"])
    inner = int(config.get("intermediate_size") or width * float(config.get("mlp_ratio", 4)))
    gated = kind in _GATED or given.get("model_type") == "pixtral"
    layer = 4 * width * width + (3 if gated else 2) * width * inner
    merging = "qwen" in kind or kind == "kimi_vl"
    merge = int(config.get("spatial_merge_size", 2 if merging else 1)) ** 2 * width
    projection = merge * merge + merge * hidden if merging else merge * hidden
    if kind in _TWICE_PROJECTED:
        projection += hidden * hidden
    deep = len(config.get("deepstack_visual_indexes") or ())  # Qwen3-VL: merged features of these layers as well
    return count * layer + (1 + deep) * projection


def _glm4v(config: Mapping[str, Any]) -> int:
    """GLM-4V: gated MLPs as wide as the text model, a convolution that merges, then a gated projection."""
    width, out, inner = (int(config[key]) for key in ("hidden_size", "out_hidden_size", "intermediate_size"))
    layer = 4 * width * width + 3 * width * out
    merge = int(config.get("spatial_merge_size", 2)) ** 2 * width
    return int(config["depth"]) * layer + merge * out + out * out + 3 * out * inner
