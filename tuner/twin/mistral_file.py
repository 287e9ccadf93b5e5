"""`params.json`, in which Mistral describes a model: its words as config.json has them.

From `transformers_utils/configs/mistral.py` of vLLM, which reads it where there is no config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "sliding_window": "sliding_window",
}
_SAME_SIZE = frozenset({"norm_eps", "rope_theta", "max_seq_len", "max_position_embeddings", "tied_embeddings"})
_SAME_SIZE |= {"model_type", "activation", "use_biases", "causal", "vision_encoder"}
_LONGEST = 128_000
"""What vLLM takes where the file names no length."""


def as_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config.json of a dense model, with a vision tower or without.

    Raises ValueError for what makes another model of it (experts, latent attention, quantization), and for any key that
    is not known to leave sizes as they are.
    """
    unknown = sorted(params.keys() - _NAMES.keys() - _SAME_SIZE)
    if unknown:
        raise ValueError(f"params.json says {', '.join(unknown)[:80]}, which the twin does not follow")
    text: dict[str, Any] = {ours: params[theirs] for theirs, ours in _NAMES.items() if theirs in params}
    text["max_position_embeddings"] = params.get("max_position_embeddings") or params.get("max_seq_len") or _LONGEST
    text["tie_word_embeddings"] = params.get("tied_embeddings", False)
    tower = params.get("vision_encoder")
    if tower is None:
        return {"architectures": ["MistralForCausalLM"], "model_type": "mistral", **text}
    if not isinstance(tower, Mapping):
        raise ValueError("vision_encoder is no JSON object")
    vision = {**tower, "model_type": "pixtral"}
    kind = {"architectures": ["PixtralForConditionalGeneration"], "model_type": "pixtral"}
    return {**kind, "text_config": text, "vision_config": vision}
