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
from tuner.twin.stages import Stage, stages_of

GIB = 2**30
_OUTSIDE_TORCH_GIB = 0.05
_VOCAB_COPIES = 1.17
"""Reserve per vocabulary matrix shard, in units of that matrix (dimensionless)."""
_ACTIVATION_SHARE = 0.14
"""Share of the activation estimate that adds to the vocabulary's reserve (buffers are reused)."""
_ENDLESS_BLOCKS = 2**40
"""More than any memory holds."""


class MemoryPlan(Value):
    """What a start would find. `reason` is vLLM's own complaint in short when it does not fit."""

    fits: bool
    kv_tokens: int = Field(ge=0)
    kv_blocks: int = Field(ge=0)
    weights_gib: float = Field(ge=0, description="Per GPU.")
    overhead_gib: float = Field(ge=0, description="Activation peak and everything outside torch, per GPU.")
    kv_gib: float = Field(description="Left for the KV cache per GPU; negative when not even the weights fit.")
    longest_request: int = Field(ge=0, description="Longest sequence the cache holds alone, max-model-len at most.")
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


class _Room(Value):
    """What one GPU of a pipeline stage has for keys and values."""

    weights_gib: float
    overhead_gib: float
    kv_gib: float
    blocks: int
    longest: int


def plan_memory(shape: ModelShape, gpu: Gpu, demand: MemoryDemand) -> MemoryPlan:
    """Return what is left for KV tokens, and whether one request of `max_model_len` fits.

    Every stage of a pipeline keeps keys and values of its own layers of every token, so the one with room for the
    fewest blocks decides (vLLM: `get_kv_cache_configs`); figures per GPU are that stage's. Raises InvalidInput where
    the model cannot be cut into so many stages.
    """
    rooms = [_room(shape, stage, gpu, demand) for stage in stages_of(shape, demand.pipeline_parallel_size)]
    tightest = min(rooms, key=lambda room: (room.blocks, room.kv_gib))
    longest = min(room.longest for room in rooms)
    reason = _complaint(tightest, longest, demand)
    return MemoryPlan(
        fits=reason is None,
        kv_tokens=tightest.blocks * demand.block_size,
        kv_blocks=tightest.blocks,
        weights_gib=tightest.weights_gib,
        overhead_gib=tightest.overhead_gib,
        kv_gib=tightest.kv_gib,
        longest_request=longest,
        reason=reason,
    )


def _room(shape: ModelShape, stage: Stage, gpu: Gpu, demand: MemoryDemand) -> _Room:
    weights = max(0.0, _stage_gib(shape, stage, demand) - demand.cpu_offload_gib)
    overhead = _overhead_gib(shape, stage, demand) + demand.adapter_slots * _slot_gib(shape, stage, demand)
    kv_gib = gpu.memory_gib * demand.gpu_memory_utilization - weights - overhead
    if demand.kv_cache_gib is not None:
        kv_gib = min(demand.kv_cache_gib, gpu.memory_gib - weights - overhead)
    per_token = stage.kv_bytes_per_gpu(demand.kv_bytes, demand.tensor_parallel_size)
    return _Room(
        weights_gib=weights,
        overhead_gib=overhead,
        kv_gib=kv_gib,
        blocks=_blocks(kv_gib, per_token * demand.block_size),
        longest=_longest_request(stage, kv_gib, demand),
    )


def _blocks(kv_gib: float, block_bytes: float) -> int:
    """Return the blocks that fit; a stage without attention layers keeps none and never lacks them."""
    if block_bytes == 0:
        return _ENDLESS_BLOCKS if kv_gib > 0 else 0
    return max(0, int(kv_gib * GIB // block_bytes))


def weights_gib(shape: ModelShape, demand: MemoryDemand) -> float:
    """Return the weights of one GPU of the stage that has most, GiB: quantized layers as stored, the rest in 16 bits.

    Embedding, head and towers are not quantized. Routed experts are spread over data-parallel ranks as well (vLLM:
    `FusedMoEParallelConfig`); whole ones as evenly as their number allows. Raises InvalidInput as `plan_memory` does.
    """
    return max(_stage_gib(shape, stage, demand) for stage in stages_of(shape, demand.pipeline_parallel_size))


def _stage_gib(shape: ModelShape, stage: Stage, demand: MemoryDemand) -> float:
    """Towers stand on every stage: model classes build them whatever the rank."""
    stored, tensor = demand.weights, demand.tensor_parallel_size
    attention = stage.total(lambda group: group.attention) * stored.mean_bits(stored.plain_attention)
    mlp = stage.total(lambda group: group.mlp) * stored.mean_bits(stored.plain_mlp)
    experts = stage.routed_params * stored.mean_bits(stored.plain_experts) / demand.data_parallel_size
    experts *= _uneven(shape, demand)
    beside = stage.vocab_params + shape.extra_params
    return ((attention + mlp + experts) / 8 + beside * 2) / tensor / GIB


def slot_gib(shape: ModelShape, demand: MemoryDemand) -> float:
    """Return what one place for a LoRA adapter takes of each GPU, GiB, in 16 bits.

    vLLM (`vllm/lora/layers`) pads every adapter to `max-lora-rank` and stacks both factors of the seven products of a
    layer: those of the hidden size whole on each GPU, the others split by tensor parallelism. Counted for dense layers;
    adapters of routed experts are not. Never measured.
    """
    return max(_slot_gib(shape, stage, demand) for stage in stages_of(shape, demand.pipeline_parallel_size))


def _slot_gib(shape: ModelShape, stage: Stage, demand: MemoryDemand) -> float:
    wide = stage.total(lambda group: group.attention + group.mlp) / shape.hidden_size
    whole = 7 * shape.hidden_size * stage.num_hidden_layers
    return demand.adapter_rank * 2 * (whole + wide / demand.tensor_parallel_size) / GIB


def _uneven(shape: ModelShape, demand: MemoryDemand) -> float:
    """Return how many of an even share of the experts the fullest GPU holds."""
    ranks = demand.tensor_parallel_size * demand.data_parallel_size
    if not demand.expert_parallel or shape.experts == 0:
        return 1.0
    return -(-shape.experts // ranks) * ranks / shape.experts


def _overhead_gib(shape: ModelShape, stage: Stage, demand: MemoryDemand) -> float:
    """Activation peak and what lies outside torch; logits only where the output head is."""
    tensor, tokens = demand.tensor_parallel_size, demand.max_num_batched_tokens
    activation = tokens * 2 * (3 * shape.intermediate_size / tensor + 4 * shape.hidden_size) / GIB
    # Each token is copied to every expert it goes to, through both products, and back.
    per_expert = 3 * shape.intermediate_size / tensor + 3 * shape.hidden_size
    dispatched = tokens * 2 * shape.experts_per_token * per_expert / GIB
    vocab = stage.head_params * 2 / tensor / GIB
    return _OUTSIDE_TORCH_GIB + max(_VOCAB_COPIES * vocab + _ACTIVATION_SHARE * activation, activation) + dispatched


def _complaint(room: _Room, longest: int, demand: MemoryDemand) -> str | None:
    if room.kv_gib <= 0 or room.blocks == 0:
        return (
            f"no available memory for the cache blocks: weights take {room.weights_gib:.1f} GiB per GPU at "
            f"gpu-memory-utilization {demand.gpu_memory_utilization:g}"
        )
    if demand.longest_that_fits or longest >= demand.max_model_len:
        return None
    return (
        f"the KV cache holds {room.blocks * demand.block_size} tokens, fewer than one request of max-model-len "
        f"{demand.max_model_len}; raise gpu-memory-utilization or lower max-model-len"
    )


def _longest_request(stage: Stage, kv_gib: float, demand: MemoryDemand) -> int:
    """Return the longest sequence a stage's cache holds alone, tokens, up to `max_model_len`."""

    def held(tokens: int) -> bool:
        blocks = -(-tokens // demand.block_size) * demand.block_size
        steps = demand.max_num_batched_tokens
        needed = stage.kv_bytes_of(blocks, demand.kv_bytes, demand.tensor_parallel_size, step_tokens=steps)
        return needed <= kv_gib * GIB

    low, high = 0, demand.max_model_len
    if held(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if held(middle) else (low, middle)
    return low
