"""What of a model decides its speed and memory: its layers, heads and vocabulary, read from a config.json.

A shape is groups of equal layers, so that one arithmetic serves dense models, mixtures of experts, latent attention,
sliding windows and state-space layers. `architectures` knows which key of which architecture means what.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from controlplane.domain.errors import InvalidInput
from controlplane.reading.problems import describe
from tuner.twin.architectures import Architecture, find_architecture, nearest_kind, text_of
from tuner.twin.blocks import depth
from tuner.twin.checkpoints import SIXTEEN_BITS, Checkpoint, read_checkpoint
from tuner.twin.config_file import UnknownModel, read_config
from tuner.twin.layers import LayerGroup, LayerStack, Trait

__all__ = ["SHIPPED_SHAPES", "ModelShape", "UnknownModel", "guess_shape", "load_shape", "parse_shape"]

SHIPPED_SHAPES = ("llama-1b", "llama-8b", "llama-70b", "qwen3-14b", "qwen3-30b-a3b")


class ModelShape(LayerStack):
    """A decoder as the engine runs it; what stands beside the text decoder (towers) counts as `extra_params`."""

    name: str
    architecture: str = "LlamaForCausalLM"
    hidden_size: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    intermediate_size: int = Field(gt=0, description="Widest buffer of one token's MLP, per projection.")
    vocab_size: int = Field(gt=0)
    max_position_embeddings: int = Field(default=8192, gt=0, description="Longest the engine takes, scaling included.")
    tie_word_embeddings: bool = False
    layers: tuple[LayerGroup, ...] = Field(min_length=1)
    order: tuple[int, ...] = Field(default=(), description="Of each layer its group; empty: groups one after another.")
    partition: str | None = Field(default=None, description="VLLM_PP_LAYER_PARTITION of the engine's environment.")
    extra_params: int = Field(default=0, ge=0, description="Weights outside the decoder layers, kept in 16 bits.")
    checkpoint: Checkpoint = SIXTEEN_BITS

    @property
    def quantization(self) -> str | None:
        """What the checkpoint itself is quantized with."""
        return self.checkpoint.method

    @property
    def experts(self) -> int:
        """Routed experts of a mixture layer; 0 without."""
        return max(group.experts for group in self.layers)

    @property
    def experts_per_token(self) -> int:
        return max(group.experts_per_token for group in self.layers)

    @property
    def vocab_params(self) -> int:
        """Weights of one vocabulary matrix (embedding or output head)."""
        return self.vocab_size * self.hidden_size

    @property
    def params(self) -> int:
        """All weights, towers included."""
        return self.linear_params + self.vocab_params * (1 if self.tie_word_embeddings else 2) + self.extra_params

    @property
    def active_params(self) -> int:
        """Weights one token is multiplied with: the layers' and the output head's (the embedding is a look-up)."""
        return self.active_linear_params + self.vocab_params

    @property
    def window(self) -> int | None:
        """Tokens the sliding layers look back; None when every layer sees everything."""
        windows = [group.window for group in self.layers if group.window is not None]
        return max(windows) if windows else None

    @property
    def traits(self) -> tuple[Trait, ...]:
        """What sets the model apart from dense layers that see everything, in a fixed order."""
        present = frozenset[Trait]().union(*(group.traits for group in self.layers))
        return tuple(trait for trait in Trait if trait in present)


def load_shape(path_or_name: str) -> ModelShape:
    """Return a shipped shape by name, or the shape in a model folder's (or file's) config.json.

    Raises UnknownModel when there is neither, or when config.json is not a decoder the twin knows.
    """
    if path_or_name in SHIPPED_SHAPES:
        return _shipped(path_or_name)
    path = Path(path_or_name)
    raw = read_config(path_or_name, otherwise=f", or one of {', '.join(SHIPPED_SHAPES)}")
    return parse_shape(raw, name=path.stem if path.is_file() else path.name)


@cache
def _shipped(name: str) -> ModelShape:
    """Return one that comes with the package, read once: a study asks for it before every simulation."""
    text = resources.files("tuner.twin").joinpath(f"shapes_data/{name}.json").read_text()
    return parse_shape(json.loads(text), name=name)


def parse_shape(raw: Any, *, name: str) -> ModelShape:
    """Return the shape of a decoded config.json.

    Raises UnknownModel for an architecture outside the table, and where a key it needs is missing or wrong.
    """
    return _or_unknown(raw, name, _row_of)


def guess_shape(raw: Any, *, name: str) -> ModelShape:
    """Return the shape that a configuration's sizes make of the nearest kind of architecture, whatever it is called.

    Only for a twin that was corrected by measurements of this very model: a guess of a size is worse than none.
    Raises UnknownModel where sizes are missing.
    """
    plain = {**raw, "quantization_config": None, "compression_config": None} if isinstance(raw, dict) else raw
    return _or_unknown(plain, name, nearest_kind)


def _row_of(raw: dict[str, Any]) -> Architecture:
    found = find_architecture(raw)
    if found is None:
        given = raw.get("architectures") or raw.get("model_type") or "no architecture"
        raise ValueError(f"{given} is not in the twin's table of architectures")
    return found


def _or_unknown(raw: Any, name: str, row: Callable[[dict[str, Any]], Architecture]) -> ModelShape:
    if not isinstance(raw, dict):
        raise UnknownModel(f"config of {name!r} is no JSON object")
    try:
        return _read(row(raw), raw, name)
    except KeyError as error:
        raise UnknownModel(f"config of {name!r} is no model the twin knows", why=f"{error} is missing") from error
    except (InvalidInput, ValidationError, TypeError, ArithmeticError, ValueError, AttributeError) as error:
        why = describe(error) if isinstance(error, ValidationError) else str(error)
        raise UnknownModel(f"config of {name!r} is no model the twin knows", why=why) from error


def _read(found: Architecture, raw: dict[str, Any], name: str) -> ModelShape:
    text = text_of(raw)
    fields = found.read(text, raw)
    stored = read_checkpoint(_quantization(raw) or _quantization(text), layers=depth(text))
    return ModelShape(name=name, architecture=found.name, checkpoint=stored, **fields)


def _quantization(config: dict[str, Any]) -> Any:
    """Return how the checkpoint is quantized: older compressed-tensors call it `compression_config`."""
    return config.get("quantization_config") or config.get("compression_config")
