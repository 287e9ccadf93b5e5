"""What of a model decides its speed and memory: layer sizes, heads, vocabulary; read from a config.json."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput
from controlplane.reading.problems import describe

SHIPPED_SHAPES = ("llama-1b", "llama-8b", "llama-70b")


class ModelShape(Value):
    """A decoder-only transformer with gated MLP and grouped-query attention; `experts` above 1 for mixtures."""

    name: str
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    max_position_embeddings: int = Field(default=8192, gt=0)
    tie_word_embeddings: bool = False
    experts: int = Field(default=1, ge=1)
    experts_per_token: int = Field(default=1, ge=1)
    quantization: str | None = Field(default=None, description="What the checkpoint itself is quantized with.")

    @property
    def attention_params(self) -> int:
        """Weights of one layer's attention projections."""
        query = self.num_attention_heads * self.head_dim
        return self.hidden_size * (2 * query + 2 * self.num_key_value_heads * self.head_dim)

    @property
    def linear_params(self) -> int:
        """Weights of all layers (what quantization shrinks); embedding and output head are apart."""
        mlp = 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (self.attention_params + mlp * self.experts)

    @property
    def active_linear_params(self) -> int:
        """Weights one token is multiplied with."""
        mlp = 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (self.attention_params + mlp * self.experts_per_token)

    @property
    def vocab_params(self) -> int:
        """Weights of one vocabulary matrix (embedding or output head)."""
        return self.vocab_size * self.hidden_size

    def kv_bytes_per_token(self, kv_bytes: float) -> float:
        """Bytes one token's keys and values take in all layers, all GPUs together."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * kv_bytes


def load_shape(path_or_name: str) -> ModelShape:
    """Return a shipped shape by name, or the shape in a model folder's (or file's) config.json.

    Raises InvalidInput when there is neither, or when config.json is not a decoder the twin knows.
    """
    if path_or_name in SHIPPED_SHAPES:
        text = resources.files("tuner.twin").joinpath(f"shapes_data/{path_or_name}.json").read_text()
        return parse_shape(json.loads(text), name=path_or_name)
    path = Path(path_or_name)
    file = path / "config.json" if path.is_dir() else path
    try:
        raw = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        allowed = f"a folder with config.json, or one of {', '.join(SHIPPED_SHAPES)}"
        raise InvalidInput(f"no model shape in {path_or_name!r}", why=str(error), allowed=allowed) from error
    return parse_shape(raw, name=path.stem if path.is_file() else path.name)


def parse_shape(raw: Any, *, name: str) -> ModelShape:
    """Return the shape of a decoded config.json. Raises InvalidInput naming what is missing or wrong."""
    if not isinstance(raw, dict):
        raise InvalidInput(f"config of {name!r} is no JSON object")
    text = raw.get("text_config", raw)
    heads = text.get("num_attention_heads")
    fields = {key: text[key] for key in _COPIED if text.get(key) is not None}
    fields.setdefault("num_key_value_heads", heads)
    if "head_dim" not in fields and heads and text.get("hidden_size"):
        fields["head_dim"] = text["hidden_size"] // heads
    fields["experts"] = text.get("num_local_experts") or text.get("num_experts") or 1
    fields["experts_per_token"] = text.get("num_experts_per_tok") or 1
    fields["quantization"] = (raw.get("quantization_config") or {}).get("quant_method")
    try:
        return ModelShape(name=name, **fields)
    except (ValidationError, TypeError) as error:
        why = describe(error) if isinstance(error, ValidationError) else str(error)
        raise InvalidInput(f"config of {name!r} is no model the twin knows", why=why) from error


_COPIED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
)
