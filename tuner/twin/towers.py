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
_GATED = ("qwen2_5_vl", "mistral3")


def tower_params(raw: Mapping[str, Any], hidden: int) -> int:
    """Return the weights of the vision tower; 0 for a model of text alone. Raises KeyError where it cannot be sized."""
    given = raw.get("vision_config")
    if given is None:
        return 0
    kind = str(raw.get("model_type", ""))
    config = {**_DEFAULTS.get(kind, {}), **given}
    width = int(config.get("embed_dim") or config["hidden_size"])
    count = int(config.get("depth") or config.get("num_hidden_layers") or config["num_layers"])
    inner = int(config.get("intermediate_size") or width * float(config.get("mlp_ratio", 4)))
    layer = 4 * width * width + (3 if kind in _GATED else 2) * width * inner
    merge = int(config.get("spatial_merge_size", 2 if "qwen" in kind else 1)) ** 2 * width
    projection = merge * merge + merge * hidden if "qwen" in kind else merge * hidden
    return count * layer + projection
