"""Rules that tell without a GPU that a configuration cannot start, or that it costs too much to be worth starting.

Only what is certain may reject: the rules of vLLM's own argument checks and the twin's memory model. Everything else is
left to a start, and a start that fails teaches the sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from tuner.twin.beyond import allows_any_length, shape_under
from tuner.twin.flags import FlagReader
from tuner.twin.gpus import Gpu, gpu_of
from tuner.twin.memory import MemoryPlan, plan_memory
from tuner.twin.setup import DoesNotFit, memory_demand, split_problem
from tuner.twin.shapes import ModelShape
from tuner.twin.stages import cut_as, pipeline_problem

_NO_ENV: Mapping[str, str] = MappingProxyType({})


def objections(
    config: EngineConfig,
    *,
    pool: GpuPool,
    shape: ModelShape | None,
    defaults: Mapping[str, FlagValue],
    env: Mapping[str, str] = _NO_ENV,
) -> tuple[str, ...]:
    """Return every reason why the config cannot run on the pool; empty when nothing is known against it.

    `defaults` are the engine's values of flags left out, `env` its environment. Without a shape only rules between
    flags are checked, on an unknown GPU those of the model too, but not its memory.
    """
    found = contradictions(config, pool=pool, shape=shape, defaults=defaults, env=env)
    return found if shape is None or found else tuple(_memory_rules(config, cut_as(shape, env), pool))


def contradictions(
    config: EngineConfig,
    *,
    pool: GpuPool,
    shape: ModelShape | None,
    defaults: Mapping[str, FlagValue],
    env: Mapping[str, str] = _NO_ENV,
) -> tuple[str, ...]:
    """Return what no engine could start with, by the flags, the model and the number of GPUs alone."""
    try:
        needed = config.gpus_per_replica
    except InvalidInput as wrong:
        return (str(wrong),)
    known = None if shape is None else shape_under(shape, config)
    found = [] if needed <= pool.count else [f"needs {needed} GPUs, there are {pool.count}"]
    return (*found, *_batch_rules(config, known, defaults), *(() if known is None else model_rules(config, known, env)))


def memory_plan(config: EngineConfig, *, pool: GpuPool, shape: ModelShape) -> MemoryPlan | None:
    """Return what the twin expects of a start's memory; None where it knows not the GPU or what a flag's value does."""
    gpu = gpu_of(pool)
    if gpu is None:
        return None
    try:
        return _plan(config, shape, gpu)
    except InvalidInput:
        return None


def _plan(config: EngineConfig, shape: ModelShape, gpu: Gpu) -> MemoryPlan | None:
    known = shape_under(shape, config)
    return None if known is None else plan_memory(known, gpu, memory_demand(known, gpu, config))


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


def model_rules(config: EngineConfig, shape: ModelShape, env: Mapping[str, str]) -> list[str]:
    """Return why no engine with that environment starts the model so, whatever the GPU; empty when one may."""
    split = split_problem(shape, config.tensor_parallel_size)
    uncut = pipeline_problem(cut_as(shape, env), config.pipeline_parallel_size)
    found = [problem for problem in (split, uncut) if problem is not None]
    if shape.experts == 0 and config.flags.get("enable-expert-parallel") in (True, "true"):
        found.append(f"enable-expert-parallel needs a mixture of experts, {shape.name} has none")
    length = _length(config)
    if length is not None and length > shape.max_position_embeddings and not allows_any_length(env):
        found.append(f"max-model-len {length} is above the model's {shape.max_position_embeddings}")
    return found


def _memory_rules(config: EngineConfig, shape: ModelShape, pool: GpuPool) -> list[str]:
    gpu = gpu_of(pool)
    if gpu is None:
        return []
    try:
        plan = _plan(config, shape, gpu)
    except DoesNotFit as refusal:
        return [str(refusal)]
    except InvalidInput:  # a value the twin cannot read: the engine's start decides
        return []
    return [] if plan is None or plan.fits else [plan.reason or "does not fit in GPU memory"]


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
