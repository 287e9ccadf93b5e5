"""What happens before an engine serves: the checks that make vLLM refuse to start, with its words and exit codes."""

from __future__ import annotations

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.emulator.settings import EmulatorSettings
from tuner.twin.beyond import shape_under
from tuner.twin.gpus import find_gpu
from tuner.twin.memory import MemoryPlan, plan_memory
from tuner.twin.profile import load_profile
from tuner.twin.setup import EngineSetup, memory_demand, resolve
from tuner.twin.shapes import ModelShape, load_shape

DEFAULT_STARTUP_S = 120.0
"""Median of nine starts of vLLM 0.26 on H200 with 8B and 70B shapes: 118 to 193 s."""

_DEVICES_OF_A_HOST = 8


class StartRefused(Exception):
    """The engine does not start. `str(error)` is what vLLM would print last; exit code 1."""


def engine_setup(settings: EmulatorSettings) -> tuple[ModelShape, EngineSetup]:
    """Return the model and the engine the settings make of it. Raises StartRefused where vLLM would not start."""
    if settings.faults.out_of_memory:
        raise StartRefused(cuda_out_of_memory(settings.gpu, needed_gib=2.0))
    try:
        config = _with_auto_length(settings.config)
        shape = load_shape(settings.model).evolve(partition=settings.layer_partition)
        shape = shape_under(shape, config) or shape  # what cannot be followed is refused by `resolve`
        _check_devices(settings, config)
        _check_shape(shape, config)
        _check_adapters(config)
        _check_api(config)
        _check_memory(shape, settings.gpu, config)
        profile = None if settings.profile is None else load_profile(settings.profile)
        return shape, resolve(shape, settings.gpu, config, profile)
    except InvalidInput as error:
        raise StartRefused(
            f"pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Value error, {error}"
        ) from error


def _with_auto_length(config: EngineConfig) -> EngineConfig:
    return config.with_flags({"max-model-len": "auto"}) if config.flags.get("max-model-len") == -1 else config


def _check_devices(settings: EmulatorSettings, config: EngineConfig) -> None:
    visible = _DEVICES_OF_A_HOST if settings.visible_devices is None else settings.visible_devices
    if visible == 0:
        raise StartRefused("RuntimeError: No CUDA GPUs are available")
    if config.gpus_per_replica > visible:
        raise StartRefused(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig\n  Value error, "
            f"World size ({config.gpus_per_replica}) is larger than the number of available GPUs ({visible}) in this "
            "node. If this is intentional and you are using multiple nodes, set --nnodes."
        )


def _check_shape(shape: ModelShape, config: EngineConfig) -> None:
    tensor = config.tensor_parallel_size
    if shape.num_attention_heads % tensor:
        raise StartRefused(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Value error, Total "
            f"number of attention heads ({shape.num_attention_heads}) must be divisible by tensor parallel size "
            f"({tensor})."
        )
    length = config.flags.get("max-model-len")
    if isinstance(length, int) and length > shape.max_position_embeddings:
        raise StartRefused(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, "
            f"User-specified max_model_len ({length}) is greater than the derived "
            f"max_model_len (max_position_embeddings={shape.max_position_embeddings} or "
            "model_max_length=None in model's config.json)."
        )


def _check_adapters(config: EngineConfig) -> None:
    loras = int(config.flags.get("max-loras", 1))
    on_host = int(config.flags.get("max-cpu-loras", loras))
    if config.flags.get("enable-lora") is True and on_host < loras:
        raise StartRefused(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for LoRAConfig\n  Value error, "
            f"max_cpu_loras ({on_host}) must be >= max_loras ({loras})."
        )


def _check_api(config: EngineConfig) -> None:
    if config.flags.get("enable-auto-tool-choice") is True and not config.flags.get("tool-call-parser"):
        raise StartRefused("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")
    runner = config.flags.get("runner", "auto")
    if runner not in ("auto", "generate"):
        raise StartRefused(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, "
            f"This model does not support `--runner {runner}`."
        )


def _check_memory(shape: ModelShape, gpu_name: str, config: EngineConfig) -> None:
    gpu = find_gpu(gpu_name)
    demand = memory_demand(shape, gpu, config)
    plan = plan_memory(shape, gpu, demand)
    if plan.fits:
        return
    if plan.weights_gib > gpu.memory_gib:
        raise StartRefused(cuda_out_of_memory(gpu.name, needed_gib=plan.weights_gib - gpu.memory_gib))
    if plan.kv_gib <= 0:
        raise StartRefused(
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine."
        )
    raise StartRefused(_cache_too_small(plan, demand.max_model_len))


def _cache_too_small(plan: MemoryPlan, max_model_len: int) -> str:
    needed_gib = plan.kv_gib * max_model_len / max(1, plan.kv_tokens)
    return (
        f"ValueError: To serve at least one request with the models's max seq len ({max_model_len}), "
        f"({needed_gib:.2f} GiB KV cache is needed, which is larger than the available KV cache memory "
        f"({plan.kv_gib:.2f} GiB). Based on the available memory, the estimated maximum model length is "
        f"{plan.kv_tokens}. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing "
        "the engine."
    )


def cuda_out_of_memory(gpu: str, *, needed_gib: float) -> str:
    """Return what torch says when a GPU is full."""
    return (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {needed_gib:.2f} GiB. GPU 0 ({gpu}, emulated) "
        "has a total capacity that is already in use."
    )
