"""Does a configuration fit, and how many tokens of KV cache are left? The arithmetic vLLM does at start, without a GPU.

vLLM gives the KV cache what `gpu-memory-utilization` leaves after weights, the profiled activation peak and what lies
outside torch; the terms here follow `vllm/v1/worker/gpu_worker.py` (`determine_available_memory`). The two overhead
coefficients were read off nine measured engines on H200 (8B and 70B, bf16 and fp8, one and two GPUs): the reserve went
with the vocabulary matrix and hardly with the batched-token budget.
"""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value
from tuner.twin.gpus import Gpu
from tuner.twin.shapes import ModelShape

GIB = 2**30
_OUTSIDE_TORCH_GIB = 0.05
_VOCAB_COPIES = 1.17
"""Reserve per vocabulary matrix shard, in units of that matrix (dimensionless)."""
_ACTIVATION_SHARE = 0.14
"""Share of the activation estimate that adds to the vocabulary's reserve (buffers are reused)."""


class MemoryPlan(Value):
    """What a start would find. `reason` is vLLM's own complaint in short when it does not fit."""

    fits: bool
    kv_tokens: int = Field(ge=0)
    kv_blocks: int = Field(ge=0)
    weights_gib: float = Field(ge=0, description="Per GPU.")
    overhead_gib: float = Field(ge=0, description="Activation peak and everything outside torch, per GPU.")
    kv_gib: float = Field(description="Left for the KV cache per GPU; negative when not even the weights fit.")
    reason: str | None = None


class MemoryDemand(Value):
    """The part of a configuration that costs memory."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    weight_bits: float = Field(default=16, gt=0)
    kv_bytes: float = Field(default=2, gt=0)
    gpu_memory_utilization: float = Field(default=0.92, gt=0, le=1)
    max_model_len: int = Field(gt=0)
    max_num_batched_tokens: int = Field(gt=0)
    block_size: int = Field(default=16, gt=0)


def plan_memory(shape: ModelShape, gpu: Gpu, demand: MemoryDemand) -> MemoryPlan:
    """Return what is left for KV tokens, and whether one request of `max_model_len` fits."""
    weights = weights_gib(shape, demand)
    overhead = _overhead_gib(shape, demand)
    kv_gib = gpu.memory_gib * demand.gpu_memory_utilization - weights - overhead
    shards = demand.tensor_parallel_size * demand.pipeline_parallel_size
    token_bytes = shape.kv_bytes_per_token(demand.kv_bytes) / min(shards, _kv_shards(shape, demand))
    blocks = max(0, int(kv_gib * GIB // (token_bytes * demand.block_size)))
    tokens = blocks * demand.block_size
    reason = _complaint(kv_gib, tokens, demand, weights)
    return MemoryPlan(
        fits=reason is None,
        kv_tokens=tokens,
        kv_blocks=blocks,
        weights_gib=weights,
        overhead_gib=overhead,
        kv_gib=kv_gib,
        reason=reason,
    )


def weights_gib(shape: ModelShape, demand: MemoryDemand) -> float:
    """Return the weights of one GPU, GiB: quantized layers, embedding and head in 16 bits."""
    vocab = shape.vocab_params * (1 if shape.tie_word_embeddings else 2) * 2
    linear = shape.linear_params * demand.weight_bits / 8
    return (linear + vocab) / (demand.tensor_parallel_size * demand.pipeline_parallel_size) / GIB


def _kv_shards(shape: ModelShape, demand: MemoryDemand) -> int:
    """Key-value heads are not split below one head per GPU."""
    return min(demand.tensor_parallel_size, shape.num_key_value_heads) * demand.pipeline_parallel_size


def _overhead_gib(shape: ModelShape, demand: MemoryDemand) -> float:
    per_token = 3 * shape.intermediate_size / demand.tensor_parallel_size + 4 * shape.hidden_size
    activation = demand.max_num_batched_tokens * 2 * per_token / GIB
    vocab = shape.vocab_params * 2 / demand.tensor_parallel_size / GIB
    return _OUTSIDE_TORCH_GIB + max(_VOCAB_COPIES * vocab + _ACTIVATION_SHARE * activation, activation)


def _complaint(kv_gib: float, tokens: int, demand: MemoryDemand, weights: float) -> str | None:
    if kv_gib <= 0:
        return (
            f"no available memory for the cache blocks: weights take {weights:.1f} GiB per GPU at "
            f"gpu-memory-utilization {demand.gpu_memory_utilization:g}"
        )
    if tokens < demand.max_model_len:
        return (
            f"the KV cache holds {tokens} tokens, fewer than one request of max-model-len {demand.max_model_len}; "
            f"raise gpu-memory-utilization or lower max-model-len"
        )
    return None
