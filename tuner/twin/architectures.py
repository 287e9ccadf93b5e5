"""The architectures the twin can size, and what each says in its config.json: a table, read as vLLM's model classes do.

Sources: `vllm/model_executor/models/<name>.py` of 0.26 and 0.33 for which projections exist and which keys name their
widths. An architecture that is not here is unknown: a guess of its size is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tuner.twin.blocks import Config, depth, latent, mixture, plain
from tuner.twin.hybrids import gated_delta_hybrid, granite_hybrid, jamba, nemotron_hybrid
from tuner.twin.sizes import check_sizes
from tuner.twin.towers import tower_params

Fields = dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """One row: how its layers are read. `mlp_matrices` is 3 for gated MLPs, 2 without a gate."""

    name: str
    layers: Callable[[Config], Fields]

    def read(self, text: Config, raw: Config) -> Fields:
        """Return the fields of a ModelShape. Raises KeyError, TypeError or ValueError for what is missing or wrong."""
        check_sizes(text)
        fields = self.layers(text)
        towers = tower_params(raw, int(fields["hidden_size"]))
        return fields | {"extra_params": fields.get("extra_params", 0) + towers}


def _dense(mlp_matrices: int = 3, **fixed: Any) -> Callable[[Config], Fields]:
    def read(config: Config) -> Fields:
        return plain({**config, **{k: v for k, v in fixed.items() if config.get(k) is None}}, mlp_matrices=mlp_matrices)

    return read


def _tied(read: Callable[[Config], Fields]) -> Callable[[Config], Fields]:
    """Models whose classes tie embedding and head; transformers leaves out of a config.json what is the default."""
    return lambda config: read({"tie_word_embeddings": True, **config})


def _own_width(read: Callable[[Config], Fields]) -> Callable[[Config], Fields]:
    """Models whose experts are not as wide as a dense layer: without their width they are unknown, not wide."""

    def checked(config: Config) -> Fields:
        if config.get("moe_intermediate_size") is None:
            raise KeyError("moe_intermediate_size")
        return read(config)

    return checked


def _listed_mixture(config: Config) -> Fields:
    """Hunyuan: a number per layer where others have one. Raises ValueError where they differ, or share a cache."""
    lists = {key: value for key, value in config.items() if key.startswith(("moe_", "num_shared")) and _is_list(value)}
    if config.get("use_cla") or any(len(set(value)) != 1 for value in lists.values()):
        raise ValueError("layers that share keys and values, or differ from each other")
    one = {**config, **{key: value[0] for key, value in lists.items()}}
    return mixture({**one, "num_shared_experts": one.get("num_shared_expert")})


def _opt(config: Config) -> Fields:
    """Raises ValueError for an embedding narrower than the layers (OPT-350m): it is projected up and down again."""
    if config.get("word_embed_proj_dim") not in (None, config["hidden_size"]):
        raise ValueError("an embedding of another width than the layers (word_embed_proj_dim)")
    return plain(config, mlp_matrices=2)


def _chunked_mixture(config: Config) -> Fields:
    """Llama 4: every fourth layer sees everything, the others a chunk, unless the configuration lists them otherwise.

    `no_rope_layers` holds 1 for layers with a chunk (`Llama4TextConfig`); a config.json has it empty as a rule.
    """
    chunked = config.get("no_rope_layers") or [
        int((index + 1) % int(config.get("no_rope_layer_interval") or 4) != 0) for index in range(depth(config))
    ]
    kinds = ["chunked_attention" if each else "full_attention" for each in chunked]
    return mixture({**config, "layer_types": config.get("layer_types") or kinds})


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


_LLAMA_LIKE = (
    "LlamaForCausalLM MistralForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM Phi3ForCausalLM YiForCausalLM "
    "GraniteForCausalLM OlmoForCausalLM Olmo2ForCausalLM Olmo3ForCausalLM InternLM2ForCausalLM "
    "InternLM3ForCausalLM AquilaForCausalLM Exaone4ForCausalLM BaichuanForCausalLM "
    "StableLmForCausalLM Glm4ForCausalLM GlmForCausalLM SeedOssForCausalLM HunYuanDenseV1ForCausalLM "
    "XverseForCausalLM OrionForCausalLM TeleFLMForCausalLM Ministral3ForCausalLM"
)
_TIED_LLAMA_LIKE = (
    "GemmaForCausalLM CohereForCausalLM SmolLM3ForCausalLM ExaoneForCausalLM Ernie4_5ForCausalLM Ernie4_5_ForCausalLM"
)
_MIXTURES = (
    "MixtralForCausalLM OlmoeForCausalLM PhiMoEForCausalLM GptOssForCausalLM GraniteMoeForCausalLM "
    "GraniteMoeSharedForCausalLM MiniMaxM2ForCausalLM FlexOlmoForCausalLM"
)
_MIXTURES_OF_OWN_WIDTH = (
    "Qwen2MoeForCausalLM Qwen3MoeForCausalLM Glm4MoeForCausalLM Dots1ForCausalLM BailingMoeForCausalLM "
    "BailingMoeV2ForCausalLM"
)
_LATENT = "DeepseekV2ForCausalLM DeepseekV3ForCausalLM KimiK2ForCausalLM"
_TOWERS: Mapping[str, str] = {
    "Qwen2VLForConditionalGeneration": "Qwen2ForCausalLM",
    "Qwen2_5_VLForConditionalGeneration": "Qwen2ForCausalLM",
    "Qwen3VLForConditionalGeneration": "Qwen3ForCausalLM",
    "Qwen3VLMoeForConditionalGeneration": "Qwen3MoeForCausalLM",
    "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
    "Mistral3ForConditionalGeneration": "MistralForCausalLM",
    "LlavaForConditionalGeneration": "LlamaForCausalLM",
    "LlavaNextForConditionalGeneration": "LlamaForCausalLM",
    "PixtralForConditionalGeneration": "MistralForCausalLM",
    "Llama4ForConditionalGeneration": "Llama4ForCausalLM",
    "InternVLChatModel": "Qwen2ForCausalLM",
    "Glm4vForConditionalGeneration": "Glm4ForCausalLM",
    "Glm4vMoeForConditionalGeneration": "Glm4MoeForCausalLM",
    "KimiVLForConditionalGeneration": "DeepseekV3ForCausalLM",
}
_ANY_TEXT = frozenset(
    {
        "InternVLChatModel",
        "LlavaForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
        "Mistral3ForConditionalGeneration",
    }
)
"""Whose text model is the one its own configuration names (`init_vllm_registered_model`), not always the same."""


def _table() -> Mapping[str, Architecture]:
    rows: dict[str, Callable[[Config], Fields]] = {name: _dense() for name in _LLAMA_LIKE.split()}
    rows |= {name: mixture for name in _MIXTURES.split()}
    rows |= {name: _own_width(mixture) for name in _MIXTURES_OF_OWN_WIDTH.split()}
    rows |= {name: _own_width(latent) for name in _LATENT.split()}
    rows |= {
        **{name: _tied(_dense()) for name in _TIED_LLAMA_LIKE.split()},
        "Gemma2ForCausalLM": _tied(_dense(alternates=2)),
        "Gemma3ForCausalLM": _tied(_dense(alternates=6, **_GEMMA3)),
        "Ernie4_5_MoeForCausalLM": _tied(_own_width(mixture)),
        "Cohere2ForCausalLM": _tied(_dense(alternates=4)),
        "Starcoder2ForCausalLM": _tied(_dense(mlp_matrices=2)),
        "PhiForCausalLM": _dense(mlp_matrices=2),
        "NemotronForCausalLM": _dense(mlp_matrices=2),
        "GPTNeoXForCausalLM": _dense(mlp_matrices=2),
        "OPTForCausalLM": _tied(_opt),
        "Llama4ForCausalLM": _chunked_mixture,
        "ArceeForCausalLM": _dense(mlp_matrices=2),
        "Qwen3NextForCausalLM": _own_width(gated_delta_hybrid),
        "JambaForCausalLM": jamba,
        "NemotronHForCausalLM": nemotron_hybrid,
        "HunYuanMoEV1ForCausalLM": _listed_mixture,
        "GraniteMoeHybridForCausalLM": granite_hybrid,
        "BambaForCausalLM": granite_hybrid,
    }
    rows |= {name: rows[text] for name, text in _TOWERS.items()}
    return MappingProxyType({name: Architecture(name, read) for name, read in rows.items()})


_GEMMA3 = {
    "vocab_size": 262208,
    "head_dim": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}
"""Gemma 3's config.json leaves out what the class has as a default."""

ARCHITECTURES = _table()

_MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "llama": "LlamaForCausalLM",
        "mistral": "MistralForCausalLM",
        "qwen2": "Qwen2ForCausalLM",
        "qwen3": "Qwen3ForCausalLM",
        "mixtral": "MixtralForCausalLM",
        "qwen2_moe": "Qwen2MoeForCausalLM",
        "qwen3_moe": "Qwen3MoeForCausalLM",
        "ministral3": "Ministral3ForCausalLM",
    }
)
"""For configurations that leave `architectures` out, where the type leaves no doubt."""


def find_architecture(raw: Mapping[str, Any]) -> Architecture | None:
    """Return the row of a decoded config.json; None when its architecture is not in the table.

    Of several names the engine takes the first it knows, and it knows more than the table: the first must be here.
    """
    names = raw.get("architectures")
    if not isinstance(names, list) or not names:
        return ARCHITECTURES.get(_MODEL_TYPES.get(str(raw.get("model_type")), ""))
    found = ARCHITECTURES.get(str(names[0]))
    return found if found is None or found.name not in _ANY_TEXT else _around_its_text(found, text_of(raw))


def text_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the text decoder: a part of the whole, or the whole.

    What only the whole says of tied embeddings holds for the part. Raises ValueError for a part that is no object.
    """
    parts = (raw.get(key) for key in ("text_config", "llm_config", "language_config"))
    found = next((part for part in parts if part), None)
    if found is None:
        return dict(raw)
    if not isinstance(found, dict):
        raise ValueError("the configuration of the text model is no JSON object")
    found = {**_left_out(raw, found), **found}
    tied = raw.get("tie_word_embeddings")
    return found if tied is None or "tie_word_embeddings" in found else {**found, "tie_word_embeddings": tied}


def _left_out(raw: Mapping[str, Any], text: Config) -> Mapping[str, Any]:
    """Return what the class of a nested text model takes for keys that were left out: transformers writes differences.

    Of a wrapper, not of a model that stands alone: there a key that is missing was forgotten.
    """
    wrapped = raw.get("model_type") in ("llava", "llava_next")
    return _CLASSES.get(str(text.get("model_type")), {}) if wrapped else {}


_CLASSES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama": {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
        },
        "mistral": {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
    }
)
"""Defaults of `LlamaConfig` and `MistralConfig` (transformers)."""


def _around_its_text(wrapper: Architecture, text: Config) -> Architecture | None:
    """Return the row of a wrapper as its text model is; None where that one is unknown."""
    if not text.get("architectures") and not text.get("model_type"):
        return wrapper
    inner = None if text.get("architectures") == [wrapper.name] else find_architecture(text)
    return None if inner is None else Architecture(wrapper.name, inner.layers)


def nearest_kind(raw: Mapping[str, Any]) -> Architecture:
    """Return the row whose sizes a configuration of an unknown architecture gives, by the keys it has."""
    text = text_of(raw)
    if "kv_lora_rank" in text:
        return ARCHITECTURES["DeepseekV3ForCausalLM"]
    if any(text.get(key) for key in ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")):
        return ARCHITECTURES["MixtralForCausalLM"]
    return ARCHITECTURES["LlamaForCausalLM"]
