"""From data sheet, model shape and profile to the constants of one engine's steps."""

from __future__ import annotations

import math
from collections.abc import Callable

from tuner.twin.gpu_sheet import Gpu
from tuner.twin.memory import MemoryDemand
from tuner.twin.profile import Parameters
from tuner.twin.shapes import ModelShape
from tuner.twin.stages import Stage, stages_of
from tuner.twin.steptime import StepCost

_MILLI, _MICRO = 1e-3, 1e-6


def step_cost(
    shape: ModelShape, gpu: Gpu, demand: MemoryDemand, parameters: Parameters, *, graph_tokens: int
) -> StepCost:
    """Return the step constants, seconds. Roofline arithmetic: bytes over bandwidth, FLOPs over peak.

    Of a pipeline a step stands for one round: as many batches as there are stages, one after another, through the stage
    that takes longest (decision 118). Weights are read once for each of them; a token costs once.
    Before its first token a prompt goes through all stages.

    Raises InvalidInput when the GPU's bandwidth or FLOP/s are not known.
    """
    tensor, stages = demand.tensor_parallel_size, demand.pipeline_parallel_size
    bandwidth = gpu.bandwidth()
    flops = gpu.tflops(demand.weights.computes_in) * 1e12
    kv_bandwidth = bandwidth * parameters.kv_efficiency
    pair_rate = gpu.tflops(16) * 1e12 * parameters.attention_efficiency * tensor
    cut = stages_of(shape, stages)

    def most(of: Callable[[Stage], float]) -> float:
        return max(of(stage) for stage in cut)

    layers = most(lambda stage: stage.num_hidden_layers)
    kernels = stages * layers / shape.num_hidden_layers  # a stage launches those of its own layers
    reduces = 2 * layers if tensor > 1 else 0
    # Ring all-reduce moves 2 (n - 1) / n of the message over each link (Patarasuk & Yuan 2009).
    reduce_bytes = reduces * shape.hidden_size * 2 * 2 * (tensor - 1) / tensor
    read_bytes = most(lambda stage: _read_bytes(stage, demand))
    expert_bytes = most(lambda stage: _expert_bytes(stage, demand))
    token_s = 2 * most(_dense_active) / tensor / (flops * parameters.matmul_efficiency)
    expert_token_s = (
        2 * most(lambda stage: stage.active_routed_params) / tensor / (flops * parameters.expert_matmul_efficiency)
    )
    return StepCost(
        weights_s=stages * read_bytes / tensor / (bandwidth * parameters.memory_efficiency),
        token_s=token_s,
        knee_tokens=stages * parameters.matmul_knee_tokens,
        half_tile=parameters.half_tile,
        throttle=parameters.throttle,
        experts_s=stages * expert_bytes / tensor / (bandwidth * parameters.expert_memory_efficiency),
        expert_token_s=expert_token_s,
        expert_knee_tokens=stages * parameters.expert_knee_rows * shape.experts / max(1, shape.experts_per_token),
        expert_share=_share_of_a_batch(shape.experts_per_token / max(1, shape.experts), stages),
        expert_gpus=float(_expert_gpus(demand)),
        expert_spread=expert_spread(_expert_gpus(demand), shape.experts_per_token),
        kv_token_s=most(lambda stage: _kv_bytes(stage, demand, sliding=False)) / kv_bandwidth,
        kv_window_token_s=most(lambda stage: _kv_bytes(stage, demand, sliding=True)) / kv_bandwidth,
        window_tokens=float(shape.window or 0),
        pair_s=most(lambda stage: _pair_flops(stage, sliding=False)) / pair_rate,
        pair_window_s=most(lambda stage: _pair_flops(stage, sliding=True)) / pair_rate,
        sequence_s=parameters.sequence_us * _MICRO + most(_state_bytes) / tensor / kv_bandwidth,
        fixed_s=kernels * parameters.step_fixed_ms * _MILLI,
        allreduce_s=stages * reduces * parameters.allreduce_us * _MICRO,
        allreduce_token_s=reduce_bytes / (gpu.link_gb_s * 1e9 * parameters.link_efficiency),
        launch_graph_s=stages * parameters.launch_graph_ms * _MILLI,
        launch_piecewise_s=kernels * parameters.launch_piecewise_ms * _MILLI,
        launch_eager_s=kernels * parameters.launch_eager_ms * _MILLI,
        graph_tokens=float(graph_tokens),
        launch_blocks_core=1.0 if tensor * stages == 1 else 0.0,
        prompt_s=parameters.prompt_ms * _MILLI,
        schedule_s=stages * parameters.schedule_ms * _MILLI,
        schedule_sequence_s=parameters.schedule_sequence_us * _MICRO,
        intake_s=parameters.intake_ms * _MILLI,
        intake_token_s=parameters.intake_token_us * _MICRO,
        output_s=parameters.output_us * _MICRO,
        wire_s=parameters.wire_ms * _MILLI,
        wire_token_s=parameters.wire_token_us * _MICRO + (stages - 1) * (token_s + expert_token_s),
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


def _dense_active(stage: Stage) -> int:
    return stage.active_linear_params - stage.active_routed_params


def _share_of_a_batch(share: float, stages: int) -> float:
    """Return the share by which n tokens touch as many experts as n / `stages` tokens do by `share`."""
    return share if stages == 1 or share >= 1 else float(1 - (1 - share) ** (1 / stages))


def _read_bytes(stage: Stage, demand: MemoryDemand) -> float:
    """Weights every step reads: the layers without routed experts, and the output head; of the embedding only rows."""
    stored = demand.weights
    attention = stage.total(lambda group: group.attention) * stored.mean_bits(stored.plain_attention)
    mlp = stage.total(lambda group: group.mlp) * stored.mean_bits(stored.plain_mlp)
    return (attention + mlp) / 8 + stage.head_params * 2


def _expert_bytes(stage: Stage, demand: MemoryDemand) -> float:
    return stage.routed_params * demand.weights.mean_bits(demand.weights.plain_experts) / 8


def _kv_bytes(stage: Stage, demand: MemoryDemand, *, sliding: bool) -> float:
    """Bytes one GPU reads of one context token: heads that cannot be split are read by every GPU that keeps them."""
    values = sum(
        group.count * group.kv_values / min(demand.tensor_parallel_size, group.kv_heads)
        for group in stage.layers
        if (group.window is not None) is sliding
    )
    return values * demand.kv_bytes


def _pair_flops(stage: Stage, *, sliding: bool) -> int:
    return sum(group.count * group.pair_flops for group in stage.layers if (group.window is not None) is sliding)


def _state_bytes(stage: Stage) -> int:
    """A state is read and written once a step, 16 bits a value."""
    return 2 * 2 * stage.state_values
