"""From data sheet, model shape and profile to the constants of one engine's steps."""

from __future__ import annotations

from tuner.twin.gpus import Gpu
from tuner.twin.memory import MemoryDemand
from tuner.twin.profile import Parameters
from tuner.twin.shapes import ModelShape
from tuner.twin.steptime import StepCost

_MILLI, _MICRO = 1e-3, 1e-6


def step_cost(
    shape: ModelShape, gpu: Gpu, demand: MemoryDemand, parameters: Parameters, *, graph_tokens: int
) -> StepCost:
    """Return the step constants, seconds. Roofline arithmetic: bytes over bandwidth, FLOPs over peak."""
    split = demand.tensor_parallel_size * demand.pipeline_parallel_size
    tensor = demand.tensor_parallel_size
    bandwidth = gpu.bandwidth_gb_s * 1e9
    flops = gpu.tflops(round(demand.weight_bits)) * 1e12
    pair_flops = 4 * shape.num_attention_heads * shape.head_dim * shape.num_hidden_layers
    reduces = 2 * shape.num_hidden_layers if tensor > 1 else 0
    # Ring all-reduce moves 2 (n - 1) / n of the message over each link (Patarasuk & Yuan 2009).
    reduce_bytes = reduces * shape.hidden_size * 2 * 2 * (tensor - 1) / tensor
    return StepCost(
        weights_s=_read_bytes(shape, demand) / split / (bandwidth * parameters.memory_efficiency),
        token_s=2 * shape.active_linear_params / split / (flops * parameters.matmul_efficiency),
        knee_tokens=parameters.matmul_knee_tokens,
        half_tile=parameters.half_tile,
        throttle=parameters.throttle,
        kv_token_s=shape.kv_bytes_per_token(demand.kv_bytes) / split / (bandwidth * parameters.kv_efficiency),
        pair_s=pair_flops / split / (gpu.bf16_tflops * 1e12 * parameters.attention_efficiency),
        sequence_s=parameters.sequence_us * _MICRO,
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


def _read_bytes(shape: ModelShape, demand: MemoryDemand) -> float:
    """Weights a step reads: the layers and the output head; of the embedding only single rows."""
    return shape.linear_params * demand.weight_bits / 8 + shape.vocab_params * 2
