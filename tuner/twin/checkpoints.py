"""How a checkpoint's weights are stored: bits per weight, and which layers were left in 16 bits.

From `quantization_config` as vLLM's `model_executor/layers/quantization` reads it: fp8, fbgemm_fp8, compressed-tensors
(`config_groups`), modelopt (`quant_algo`), gptq, awq, mxfp4, bitsandbytes. Scales count: one 16-bit scale per group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput
from tuner.twin.left_out import plain_shares


class Checkpoint(Value):
    """Bits as the arithmetic sees them (16, 8 or 4), bits as memory sees them, and the shares left in 16 bits."""

    method: str | None = None
    bits: int = Field(default=16, description="Class of precision: 16, 8 or 4.")
    stored_bits: float = Field(default=16.0, gt=0, description="Per quantized weight, scales and zero points included.")
    plain_attention: float = Field(default=0.0, ge=0, le=1)
    plain_mlp: float = Field(default=0.0, ge=0, le=1)
    plain_experts: float = Field(default=0.0, ge=0, le=1)
    computes_in: int = Field(default=16, description="Bits in which matrix products run: 16 for weight-only methods.")
    kv_bits: int = Field(default=16, description="Of a key or value in the cache where `kv-cache-dtype` is auto.")

    def mean_bits(self, plain: float) -> float:
        """Return bits per weight of a part of which the share `plain` was left in 16 bits."""
        return 16.0 * plain + self.stored_bits * (1.0 - plain)


SIXTEEN_BITS = Checkpoint()
FP8_ONLINE = Checkpoint(method="fp8", bits=8, stored_bits=8.0, computes_in=8)


def read_checkpoint(config: Mapping[str, Any] | None, *, layers: int) -> Checkpoint:
    """Return how a `quantization_config` stores its weights. Raises InvalidInput for an unknown method."""
    if not config:
        return SIXTEEN_BITS
    if not isinstance(config, Mapping):
        raise InvalidInput(f"quantization_config is {str(config)[:40]!r}", allowed="a JSON object")
    method = str(config.get("quant_method") or config.get("quant_type") or _producer(config)).lower()
    bits, stored, computes = _bits(method, config)
    plain = plain_shares(config, layers)
    return Checkpoint(
        method=method,
        bits=bits,
        stored_bits=stored,
        computes_in=computes,
        kv_bits=_kv_bits(config),
        plain_attention=1.0 if method == "mxfp4" else plain["attention"],
        plain_mlp=1.0 if method == "mxfp4" else plain["mlp"],
        plain_experts=plain["experts"],
    )


def online(method: str, checkpoint: Checkpoint) -> Checkpoint:
    """Return how weights lie in memory when the engine is started with `--quantization method`.

    Raises InvalidInput for a method that neither the checkpoint nor the engine itself can supply.
    """
    name = method.lower()
    if name in ("none", ""):
        return checkpoint
    if checkpoint.method is not None:
        return checkpoint  # the engine refuses another method than the checkpoint's, or runs the same one faster
    if name in ("fp8", "fp8_per_tensor", "fp8_per_block", "ptpc_fp8"):
        return FP8_ONLINE
    if name == "bitsandbytes":
        return Checkpoint(method=name, bits=4, stored_bits=4.5)
    raise InvalidInput(
        f"quantization {method!r} is unknown to the twin", allowed="fp8, bitsandbytes, or the checkpoint's"
    )


def _bits(method: str, config: Mapping[str, Any]) -> tuple[int, float, int]:
    """Return (class, stored bits per weight, bits of the arithmetic)."""
    match method:
        case "fp8" | "fbgemm_fp8":
            return 8, 8.0, 8
        case "awq" | "awq_marlin" | "gptq" | "gptq_marlin" | "auto-round":
            bits = int(config.get("bits") or config.get("w_bit") or 4)
            zeros = bits if config.get("zero_point", method.startswith("awq")) else 0
            return _class(bits), bits + _per_group(config.get("group_size", 128), 16 + zeros), 16
        case "mxfp4":
            return 4, 4.25, 16
        case "bitsandbytes":
            return _bitsandbytes(config)
        case "compressed-tensors" | "compressed_tensors":
            return _compressed(config)
        case "modelopt" | "modelopt_fp4":
            return _modelopt(config)
    raise InvalidInput(f"quantization {method!r} is unknown to the twin", allowed=", ".join(_KNOWN))


def _bitsandbytes(config: Mapping[str, Any]) -> tuple[int, float, int]:
    """A 32-bit scale per 64 weights; quantized twice, 8 bits of it and 32 more per 256 scales (QLoRA, 2305.14314)."""
    if not (config.get("load_in_4bit") or config.get("_load_in_4bit")):
        return 8, 8.0, 16
    twice = config.get("bnb_4bit_use_double_quant") is True
    return 4, 4 + (8 / 64 + 32 / (64 * 256) if twice else 32 / 64), 16


_KNOWN = ("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt", "gptq", "awq", "mxfp4", "bitsandbytes", "auto-round")


def _compressed(config: Mapping[str, Any]) -> tuple[int, float, int]:
    groups = list((config.get("config_groups") or {}).values())
    if not groups:
        raise InvalidInput("compressed-tensors without config_groups: bits unknown to the twin")
    stored = [_weights(group) for group in groups]
    if any(each != stored[0] for each in stored):
        raise InvalidInput("groups of layers quantized in different ways are unknown to the twin")
    weights = groups[0]["weights"]
    bits = int(weights["num_bits"])
    activations = [group.get("input_activations") for group in groups]
    computes = bits if all(activations) else 16
    scale_bits = 8 if weights.get("type") == "float" and bits == 4 else 16
    return _class(bits), bits + _per_group(weights.get("group_size"), scale_bits), computes


def _weights(group: Mapping[str, Any]) -> tuple[Any, ...]:
    weights = group.get("weights")
    if not isinstance(weights, Mapping):
        raise InvalidInput("a group of compressed-tensors without weights: bits unknown to the twin")
    return tuple(weights.get(key) for key in ("num_bits", "type", "group_size"))


def _modelopt(config: Mapping[str, Any]) -> tuple[int, float, int]:
    algorithm = str(config.get("quant_algo") or _modelopt_part(config).get("quant_algo")).upper()
    if "FP4" in algorithm:
        return 4, 4.5, 4
    if algorithm == "MXFP8":
        return 8, 8.25, 8
    if algorithm.startswith("FP8"):
        return 8, 8.0, 8
    raise InvalidInput(f"modelopt algorithm {algorithm} is unknown to the twin", allowed="FP8, NVFP4")


def _producer(config: Mapping[str, Any]) -> str:
    """Return who made a configuration that names no method: modelopt's own file (`hf_quant_config.json`) is so."""
    return str((config.get("producer") or {}).get("name") or "")


def _kv_bits(config: Mapping[str, Any]) -> int:
    """Return the bits of the cache that the checkpoint was calibrated for, which the engine takes where told "auto".

    From `resolve_kv_cache_dtype_string` of vLLM's `utils/torch_utils.py`: llm-compressor's `kv_cache_scheme`, and
    modelopt's `kv_cache_quant_algo`. Raises InvalidInput for an algorithm other than FP8.
    """
    scheme = config.get("kv_cache_scheme") or {}
    if scheme:
        return _class(int(scheme.get("num_bits", 8)))
    algorithm = str(_modelopt_part(config).get("kv_cache_quant_algo") or "").upper()
    if algorithm not in ("", "NONE", "FP8"):
        raise InvalidInput(f"a KV cache in {algorithm} is unknown to the twin", allowed="FP8, or none named")
    return 8 if algorithm == "FP8" else 16


def _modelopt_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what modelopt says of layers: a part of its own file, the whole where config.json holds it."""
    found: Mapping[str, Any] = config.get("quantization") or config
    return found


def _class(bits: int) -> int:
    return 4 if bits <= 4 else 8 if bits <= 8 else 16


def _per_group(size: int | str | None, bits: int) -> float:
    return bits / int(size) if size is not None and int(size) > 0 else 0.0
