"""Flags that the twin reads and does not follow: which leave it without a shape, and which without its certainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from tuner.twin.blocks import scaled_length
from tuner.twin.flags import FlagReader
from tuner.twin.shapes import ModelShape
from tuner.twin.sizes import LENGTHS

_OF_LENGTH = frozenset((*LENGTHS, "rope_scaling", "rope_parameters", "rope_theta"))
_ALLOW_LONG = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_FEATURES = ("speculative-config", "kv-transfer-config", "kv-offloading-size", "ec-transfer-config")
_MEASURED_GRAPHS = ("FULL_AND_PIECEWISE", "NONE")
"""Which CUDA graphs the twin knows: vLLM's default, and none at all."""


def shape_under(shape: ModelShape, config: EngineConfig) -> ModelShape | None:
    """Return the model as `hf-overrides` make it; None where they change more than how long a request may be."""
    reader = FlagReader(config)
    if reader.given("hf-config-path"):
        return None
    try:
        overrides = reader.parts("hf-overrides")
    except InvalidInput:
        return None
    if not overrides:
        return None if reader.given("hf-overrides") and not _is_empty(config) else shape
    return _longer(shape, overrides) if overrides.keys() <= _OF_LENGTH else None


def _is_empty(config: EngineConfig) -> bool:
    return str(config.flags.get("hf-overrides")).strip() in ("{}", "null")


def _longer(shape: ModelShape, overrides: Mapping[str, Any]) -> ModelShape | None:
    named = [overrides[key] for key in LENGTHS if overrides.get(key) is not None]
    try:
        length = int(overrides.get("model_max_length") or min(named, default=shape.max_position_embeddings))
        scaling = overrides.get("rope_parameters") or overrides.get("rope_scaling")
        return shape.evolve(max_position_embeddings=scaled_length(length, scaling, {}))
    except (ValueError, TypeError, ArithmeticError, AttributeError):
        return None


def allows_any_length(env: Mapping[str, str]) -> bool:
    """Say whether vLLM is told to take a max-model-len beyond the model's (its own parsing: a number other than 0)."""
    return env.get(_ALLOW_LONG, "0").strip().lower() in ("1", "true")


def unfollowed(config: EngineConfig) -> tuple[str, ...]:
    """Return what of `config` changes the engine's speed in a way the twin does not model, in words."""
    reader = FlagReader(config)
    features = [name for name in _FEATURES if _is_on(config, name)]
    servers = reader.integer("api-server-count", default=1)
    several = [f"api-server-count {servers}"] if servers > 1 else []
    overlap = ["enable-dbo"] if reader.boolean("enable-dbo", default=False) else []
    return (*features, *several, *overlap, *_other_graphs(reader))


def _is_on(config: EngineConfig, name: str) -> bool:
    parts = any(flag.startswith(f"{name}.") for flag in config.flags)
    return parts or str(config.flags.get(name, "null")).strip() not in ("null", "None", "{}", "", "False")


def _other_graphs(reader: FlagReader) -> list[str]:
    said = reader.parts("compilation-config")
    mode, level = said.get("cudagraph_mode"), said.get("mode")
    found = [] if mode is None or str(mode).upper() in _MEASURED_GRAPHS else [f"cudagraph_mode {mode}"]
    usual = level is None or str(level).upper() in ("3", "VLLM_COMPILE")
    return found if usual else [*found, f"compilation mode {level}"]


def largest_graph(reader: FlagReader, sequences: int) -> int:
    """Return the largest step, in tokens, that runs as one CUDA graph; 0 without any.

    vLLM (`VllmConfig._set_cudagraph_sizes`): min(2 × max-num-seqs, 512), unless flags name sizes, or a mode without
    graphs; `-O0` and enforce-eager have none. Raises InvalidInput for sizes that are no numbers.
    """
    said = reader.parts("compilation-config")
    off = str(said.get("cudagraph_mode", "")).upper() == "NONE" or reader.integer("optimization-level", default=2) == 0
    if off or reader.boolean("enforce-eager", default=False):
        return 0
    sizes = said.get("cudagraph_capture_sizes", reader.words("cudagraph-capture-sizes"))
    if sizes is not None:
        return max(map(_size, sizes), default=0)
    largest = said.get("max_cudagraph_capture_size")
    default = min(2 * sequences, 512) if largest is None else _size(largest)
    return reader.integer("max-cudagraph-capture-size", default=default)


def _size(value: object) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        raise InvalidInput(f"a CUDA graph of {value!r} tokens", allowed="whole numbers") from error
