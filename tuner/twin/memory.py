"""Does a configuration fit, and how many tokens of KV cache are left? The arithmetic vLLM does at start, without a GPU.

vLLM gives the KV cache what `gpu-memory-utilization` leaves after weights, the profiled activation peak and what lies
outside torch; the terms here follow `vllm/v1/worker/gpu_worker.py` (`determine_available_memory`). The two overhead
coefficients were read off nine measured engines on H200 (8B and 70B, bf16 and fp8, one and two GPUs): the reserve went
with the vocabulary matrix and hardly with the batched-token budget. What a mixture's dispatch adds was read off one
engine on H100 (30B-A3B); a dense 14B on the same GPU needed no change.
"""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value
from tuner.twin.checkpoints import SIXTEEN_BITS, Checkpoint
from tuner.twin.gpu_sheet import Gpu
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
    data_parallel_size: int = Field(default=1, ge=1, description="Copies of everything but routed experts.")
    expert_parallel: bool = Field(default=False, description="Each GPU holds whole experts, not a slice of all.")
    weights: Checkpoint = SIXTEEN_BITS
    kv_bytes: float = Field(default=2, gt=0)
    gpu_memory_utilization: float = Field(default=0.92, gt=0, le=1)
    kv_cache_gib: float | None = Field(default=None, gt=0, description="kv-cache-memory-bytes: given, not worked out.")
    cpu_offload_gib: float = Field(default=0, ge=0, description="Weights of each GPU that lie in host memory.")
    max_model_len: int = Field(gt=0)
    longest_that_fits: bool = Field(default=False, description="max-model-len -1: vLLM lowers it until it fits.")
    max_num_batched_tokens: int = Field(gt=0)
    block_size: int = Field(default=16, gt=0)
    adapter_slots: int = Field(default=0, ge=0, description="max-loras; 0: without enable-lora.")
    adapter_rank: int = Field(default=0, ge=0, description="max-lora-rank: every slot has so many rows, used or not.")

    @property
    def weight_bits(self) -> int:
        """Class of precision: 16, 8 or 4."""
        return self.weights.bits


def plan_memory(shape: ModelShape, gpu: Gpu, demand: MemoryDemand) -> MemoryPlan:
    """Return what is left for KV tokens, and whether one request of `max_model_len` fits."""
    weights = max(0.0, weights_gib(shape, demand) - demand.cpu_offload_gib)
    overhead = _overhead_gib(shape, demand) + demand.adapter_slots * slot_gib(shape, demand)
    kv_gib = gpu.memory_gib * demand.gpu_memory_utilization - weights - overhead
    if demand.kv_cache_gib is not None:
        kv_gib = min(demand.kv_cache_gib, gpu.memory_gib - weights - overhead)
    per_token = shape.kv_bytes_per_gpu(demand.kv_bytes, demand.tensor_parallel_size) / demand.pipeline_parallel_size
    blocks = max(0, int(kv_gib * GIB // (per_token * demand.block_size)))
    reason = _complaint(shape, kv_gib, blocks, demand, weights)
    return MemoryPlan(
        fits=reason is None,
        kv_tokens=blocks * demand.block_size,
        kv_blocks=blocks,
        weights_gib=weights,
        overhead_gib=overhead,
        kv_gib=kv_gib,
        reason=reason,
    )


def weights_gib(shape: ModelShape, demand: MemoryDemand) -> float:
    """Return the weights of one GPU, GiB: quantized layers as stored, embedding, head and towers in 16 bits.

    Routed experts are spread over data-parallel ranks as well (vLLM: `FusedMoEParallelConfig`); whole ones as evenly as
    their number allows.
    """
    stored, tensor = demand.weights, demand.tensor_parallel_size
    attention = sum(group.count * group.attention for group in shape.layers) * stored.mean_bits(stored.plain_attention)
    mlp = sum(group.count * group.mlp for group in shape.layers) * stored.mean_bits(stored.plain_mlp)
    experts = shape.routed_params * stored.mean_bits(stored.plain_experts) / demand.data_parallel_size
    experts *= _uneven(shape, demand)
    beside = shape.vocab_params * (1 if shape.tie_word_embeddings else 2) + shape.extra_params
    return ((attention + mlp + experts) / 8 + beside * 2) / (tensor * demand.pipeline_parallel_size) / GIB


def slot_gib(shape: ModelShape, demand: MemoryDemand) -> float:
    """Return what one place for a LoRA adapter takes of each GPU, GiB, in 16 bits.

    vLLM (`vllm/lora/layers`) pads every adapter to `max-lora-rank` and stacks both factors of the seven products of a
    layer: those of the hidden size whole on each GPU, the others split by tensor parallelism. Counted for dense layers;
    adapters of routed experts are not. Never measured.
    """
    hidden, tensor = shape.hidden_size, demand.tensor_parallel_size
    wide = sum(group.count * (group.attention + group.mlp) for group in shape.layers) / hidden
    whole = 7 * hidden * shape.num_hidden_layers
    return demand.adapter_rank * 2 * (whole + wide / tensor) / demand.pipeline_parallel_size / GIB


def _uneven(shape: ModelShape, demand: MemoryDemand) -> float:
    """Return how many of an even share of the experts the fullest GPU holds."""
    ranks = demand.tensor_parallel_size * demand.data_parallel_size
    if not demand.expert_parallel or shape.experts == 0:
        return 1.0
    return -(-shape.experts // ranks) * ranks / shape.experts


def _overhead_gib(shape: ModelShape, demand: MemoryDemand) -> float:
    tensor, tokens = demand.tensor_parallel_size, demand.max_num_batched_tokens
    activation = tokens * 2 * (3 * shape.intermediate_size / tensor + 4 * shape.hidden_size) / GIB
    # Each token is copied to every expert it goes to, through both products, and back.
    per_expert = 3 * shape.intermediate_size / tensor + 3 * shape.hidden_size
    dispatched = tokens * 2 * shape.experts_per_token * per_expert / GIB
    vocab = shape.vocab_params * 2 / tensor / GIB
    return _OUTSIDE_TORCH_GIB + max(_VOCAB_COPIES * vocab + _ACTIVATION_SHARE * activation, activation) + dispatched


def _complaint(shape: ModelShape, kv_gib: float, blocks: int, demand: MemoryDemand, weights: float) -> str | None:
    if kv_gib <= 0 or blocks == 0:
        return (
            f"no available memory for the cache blocks: weights take {weights:.1f} GiB per GPU at "
            f"gpu-memory-utilization {demand.gpu_memory_utilization:g}"
        )
    if demand.longest_that_fits or longest_request(shape, kv_gib, demand) >= demand.max_model_len:
        return None
    return (
        f"the KV cache holds {blocks * demand.block_size} tokens, fewer than one request of max-model-len "
        f"{demand.max_model_len}; raise gpu-memory-utilization or lower max-model-len"
    )


def longest_request(shape: ModelShape, kv_gib: float, demand: MemoryDemand) -> int:
    """Return the longest sequence the cache holds alone, tokens, up to `max_model_len`: what vLLM sizes -1 by."""
    available = kv_gib * GIB * demand.pipeline_parallel_size

    def held(tokens: int) -> bool:
        blocks = -(-tokens // demand.block_size) * demand.block_size
        steps = demand.max_num_batched_tokens
        return shape.kv_bytes_of(blocks, demand.kv_bytes, demand.tensor_parallel_size, step_tokens=steps) <= available

    low, high = 0, demand.max_model_len
    if held(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if held(middle) else (low, middle)
    return low
