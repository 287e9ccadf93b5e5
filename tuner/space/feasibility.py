"""Rules that tell without a GPU that a configuration cannot start, or that it costs too much to be worth starting.

Only what is certain may reject: the rules of vLLM's own argument checks and the twin's memory model. Everything else is
left to a start, and a start that fails teaches the sampler.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from tuner.twin.flags import FlagReader
from tuner.twin.gpus import gpu_of
from tuner.twin.memory import MemoryPlan, plan_memory
from tuner.twin.setup import DoesNotFit, memory_demand
from tuner.twin.shapes import ModelShape


def objections(
    config: EngineConfig, *, pool: GpuPool, shape: ModelShape | None, defaults: Mapping[str, FlagValue]
) -> tuple[str, ...]:
    """Return every reason why the config cannot run on the pool; empty when nothing is known against it.

    `defaults` are the engine's values of flags left out. Without a shape only rules between flags are checked, on an
    unknown GPU those of the model too, but not its memory.
    """
    found = contradictions(config, pool=pool, shape=shape, defaults=defaults)
    return found if shape is None or found else tuple(_memory_rules(config, shape, pool))


def contradictions(
    config: EngineConfig, *, pool: GpuPool, shape: ModelShape | None, defaults: Mapping[str, FlagValue]
) -> tuple[str, ...]:
    """Return what no engine could start with, by the flags, the model and the number of GPUs alone."""
    shape_rules = [] if shape is None else _shape_rules(config, shape)
    return (*_gpu_rules(config, pool), *_batch_rules(config, shape, defaults), *shape_rules)


def memory_plan(config: EngineConfig, *, pool: GpuPool, shape: ModelShape) -> MemoryPlan | None:
    """Return what the twin expects of a start's memory; None where it knows not the GPU or what a flag's value does."""
    gpu = gpu_of(pool)
    if gpu is None:
        return None
    try:
        return plan_memory(shape, gpu, memory_demand(shape, gpu, config))
    except InvalidInput:
        return None


def _gpu_rules(config: EngineConfig, pool: GpuPool) -> list[str]:
    if config.gpus_per_replica <= pool.count:
        return []
    return [f"needs {config.gpus_per_replica} GPUs, there are {pool.count}"]


def _batch_rules(config: EngineConfig, shape: ModelShape | None, defaults: Mapping[str, FlagValue]) -> list[str]:
    values = {**defaults, **config.flags}
    tokens = _integer(config, "max-num-batched-tokens")
    seqs = _integer(config, "max-num-seqs")
    length = _length(config) or (None if shape is None or _is_auto(config) else shape.max_position_embeddings)
    found = []
    if tokens is not None and seqs is not None and tokens < seqs:
        found.append(f"max-num-batched-tokens {tokens} is below max-num-seqs {seqs}")
    if values.get("enable-chunked-prefill") is False and tokens is not None and length is not None and tokens < length:
        found.append(f"without chunked prefill max-num-batched-tokens {tokens} is below max-model-len {length}")
    return found


def _shape_rules(config: EngineConfig, shape: ModelShape) -> list[str]:
    found = []
    tensor, pipeline = config.tensor_parallel_size, config.pipeline_parallel_size
    if shape.num_attention_heads % tensor:
        found.append(f"{shape.num_attention_heads} attention heads cannot be divided by tensor-parallel-size {tensor}")
    if pipeline > shape.num_hidden_layers:
        found.append(f"{shape.num_hidden_layers} layers cannot be cut into {pipeline} pipeline stages")
    if shape.experts == 0 and config.flags.get("enable-expert-parallel") in (True, "true"):
        found.append(f"enable-expert-parallel needs a mixture of experts, {shape.name} has none")
    length = _length(config)
    if length is not None and length > shape.max_position_embeddings:
        found.append(f"max-model-len {length} is above the model's {shape.max_position_embeddings}")
    return found


def _memory_rules(config: EngineConfig, shape: ModelShape, pool: GpuPool) -> list[str]:
    gpu = gpu_of(pool)
    if gpu is None:
        return []
    try:
        plan = plan_memory(shape, gpu, memory_demand(shape, gpu, config))
    except DoesNotFit as refusal:
        return [str(refusal)]
    except InvalidInput:  # a value the twin cannot read: the engine's start decides
        return []
    return [] if plan.fits else [plan.reason or "does not fit in GPU memory"]


def _length(config: EngineConfig) -> int | None:
    """max-model-len as a number; None when it is left out, or for the engine to find."""
    return None if _is_auto(config) else _integer(config, "max-model-len")


def _is_auto(config: EngineConfig) -> bool:
    return FlagReader(config).is_auto_length()


def _integer(config: EngineConfig, flag: str) -> int | None:
    """A flag's whole number, written out or short (32k); None when it is left out or none."""
    try:
        return FlagReader(config).integer(flag, default=0) or None
    except InvalidInput:
        return None
