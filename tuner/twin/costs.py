"""From data sheet, model shape and profile to the constants of one engine's steps."""

from __future__ import annotations

import math

from tuner.twin.gpu_sheet import Gpu
from tuner.twin.memory import MemoryDemand
from tuner.twin.profile import Parameters
from tuner.twin.shapes import ModelShape
from tuner.twin.steptime import StepCost

_MILLI, _MICRO = 1e-3, 1e-6


def step_cost(
    shape: ModelShape, gpu: Gpu, demand: MemoryDemand, parameters: Parameters, *, graph_tokens: int
) -> StepCost:
    """Return the step constants, seconds. Roofline arithmetic: bytes over bandwidth, FLOPs over peak.

    Raises InvalidInput when the GPU's bandwidth or FLOP/s are not known.
    """
    split = demand.tensor_parallel_size * demand.pipeline_parallel_size
    tensor = demand.tensor_parallel_size
    bandwidth = gpu.bandwidth()
    flops = gpu.tflops(demand.weights.computes_in) * 1e12
    kv_bandwidth = bandwidth * parameters.kv_efficiency
    pair_rate = gpu.tflops(16) * 1e12 * parameters.attention_efficiency * split
    reduces = 2 * shape.num_hidden_layers if tensor > 1 else 0
    # Ring all-reduce moves 2 (n - 1) / n of the message over each link (Patarasuk & Yuan 2009).
    reduce_bytes = reduces * shape.hidden_size * 2 * 2 * (tensor - 1) / tensor
    return StepCost(
        weights_s=_read_bytes(shape, demand) / split / (bandwidth * parameters.memory_efficiency),
        token_s=2 * _dense_active(shape) / split / (flops * parameters.matmul_efficiency),
        knee_tokens=parameters.matmul_knee_tokens,
        half_tile=parameters.half_tile,
        throttle=parameters.throttle,
        experts_s=_expert_bytes(shape, demand) / split / (bandwidth * parameters.expert_memory_efficiency),
        expert_token_s=2 * shape.active_routed_params / split / (flops * parameters.expert_matmul_efficiency),
        expert_knee_tokens=parameters.expert_knee_rows * shape.experts / max(1, shape.experts_per_token),
        expert_share=shape.experts_per_token / max(1, shape.experts),
        expert_gpus=float(_expert_gpus(demand)),
        expert_spread=expert_spread(_expert_gpus(demand), shape.experts_per_token),
        kv_token_s=_kv_bytes(shape, demand, sliding=False) / kv_bandwidth,
        kv_window_token_s=_kv_bytes(shape, demand, sliding=True) / kv_bandwidth,
        window_tokens=float(shape.window or 0),
        pair_s=_pair_flops(shape, sliding=False) / pair_rate,
        pair_window_s=_pair_flops(shape, sliding=True) / pair_rate,
        sequence_s=parameters.sequence_us * _MICRO + _state_bytes(shape) / split / kv_bandwidth,
        fixed_s=parameters.step_fixed_ms * _MILLI,
        allreduce_s=reduces * parameters.allreduce_us * _MICRO,
        allreduce_token_s=reduce_bytes / (gpu.link_gb_s * 1e9 * parameters.link_efficiency),
        launch_graph_s=parameters.launch_graph_ms * _MILLI,
        launch_piecewise_s=parameters.launch_piecewise_ms * _MILLI,
        launch_eager_s=parameters.launch_eager_ms * _MILLI,
        graph_tokens=float(graph_tokens),
        launch_blocks_core=1.0 if split == 1 else 0.0,
        prompt_s=parameters.prompt_ms * _MILLI,
        schedule_s=parameters.schedule_ms * _MILLI,
        schedule_sequence_s=parameters.schedule_sequence_us * _MICRO,
        intake_s=parameters.intake_ms * _MILLI,
        intake_token_s=parameters.intake_token_us * _MICRO,
        output_s=parameters.output_us * _MICRO,
        wire_s=parameters.wire_ms * _MILLI,
        wire_token_s=parameters.wire_token_us * _MICRO,
    )


def expert_spread(gpus: int, experts_per_token: int) -> float:
    """Return by what share more than its n-th part the busiest of n GPUs gets of one token's evenly picked experts.

    Of T tokens each GPU gets a sum of T x k picks, each its own with chance 1 / n; the largest of n such sums is about
    sqrt(2 ln n) standard deviations above their mean (Gumbel 1958). Bytes need no term: every tensor-parallel GPU has
    every token, and the sum goes by the all-reduce that is there without expert parallelism too (vLLM uses all-to-all
    kernels between data-parallel ranks only: `FusedMoEParallelConfig.use_all2all_kernels`).
    """
    if gpus == 1:
        return 0.0
    return math.sqrt(2 * math.log(gpus) * (gpus - 1) / max(1, experts_per_token))


def _expert_gpus(demand: MemoryDemand) -> int:
    return demand.tensor_parallel_size if demand.expert_parallel else 1


def _dense_active(shape: ModelShape) -> int:
    return shape.active_linear_params - shape.active_routed_params


def _read_bytes(shape: ModelShape, demand: MemoryDemand) -> float:
    """Weights every step reads: the layers without routed experts, and the output head; of the embedding only rows."""
    stored = demand.weights
    attention = sum(group.count * group.attention for group in shape.layers) * stored.mean_bits(stored.plain_attention)
    mlp = sum(group.count * group.mlp for group in shape.layers) * stored.mean_bits(stored.plain_mlp)
    return (attention + mlp) / 8 + shape.vocab_params * 2


def _expert_bytes(shape: ModelShape, demand: MemoryDemand) -> float:
    return shape.routed_params * demand.weights.mean_bits(demand.weights.plain_experts) / 8


def _kv_bytes(shape: ModelShape, demand: MemoryDemand, *, sliding: bool) -> float:
    """Bytes one GPU reads of one context token: heads that cannot be split are read by every GPU that keeps them."""
    values = sum(
        group.count * group.kv_values / min(demand.tensor_parallel_size, group.kv_heads)
        for group in shape.layers
        if (group.window is not None) is sliding
    )
    return values * demand.kv_bytes / demand.pipeline_parallel_size


def _pair_flops(shape: ModelShape, *, sliding: bool) -> int:
    return sum(group.count * group.pair_flops for group in shape.layers if (group.window is not None) is sliding)


def _state_bytes(shape: ModelShape) -> int:
    """A state is read and written once a step, 16 bits a value."""
    return 2 * 2 * shape.state_values
