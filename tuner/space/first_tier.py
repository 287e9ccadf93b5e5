"""The space searched when the user names none: the flags that decide capacity and cost, for a model on given GPUs.

Which flags matter is from measurements on H200 (docs/search.md) and from vLLM's own tuning guide; a user's `space`
replaces it flag by flag, and may name any other flag of the vLLM version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controlplane.domain.engines.engine import ENGINE, EngineConfig
from controlplane.domain.engines.flags import FlagValue, canonical_flag
from controlplane.domain.errors import InvalidInput
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.service import EngineOptions, ServiceSpec
from controlplane.domain.studies.tuning_options import Knob
from controlplane.domain.workload import SyntheticWorkload
from tuner.space.alternatives import space_across
from tuner.space.knobs.checks import check_flags
from tuner.space.knobs.schema import KnobSchema, knobs_of
from tuner.space.other_tiers import OTHER_TIERS
from tuner.space.space import Dimension, Requirement, Space, dimension_of
from tuner.twin.gpus import Gpu, gpu_of
from tuner.twin.setup import split_problem
from tuner.twin.shapes import ModelShape, UnknownModel, load_shape
from tuner.twin.stages import cut_as

_SEQS = (16, 32, 64, 128, 256, 512, 1024)
_BATCHED_TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
_REQUIREMENTS = {
    "long-prefill-token-threshold": Requirement(flag="enable-chunked-prefill", values=(True, None)),
    "spec-tokens": Requirement(flag="spec-method", values=("ngram",)),
}
LOSSLESS: Mapping[str, tuple[FlagValue | None, ...]] = {
    "quantization": (None,),
    "quantize": (None,),
    "kv-cache-dtype": (None, "auto", "bfloat16", "float16"),
    "cache-type-k": (None, "f16", "bf16", "f32"),
    "cache-type-v": (None, "f16", "bf16", "f32"),
}
"""Values of these flags, of whatever engine, that leave the outputs as they are; every other value is lossy."""


def space_for(spec: ServiceSpec, baseline: EngineConfig) -> Space:
    """Return the space of a service: the user's knobs, or the first tier; the baseline is always a point of it.

    Raises InvalidInput for a flag or value the vLLM version does not know.
    """
    check_flags(without_emulator_flags(baseline), spec.served_by(baseline).engine)
    if spec.alternatives:
        return space_across(spec, baseline, dimensions_of)
    return Space(base=baseline, dimensions=dimensions_of(spec, baseline)).including(baseline)


def dimensions_of(spec: ServiceSpec, baseline: EngineConfig) -> tuple[Dimension, ...]:
    """Return what varies of a service's own engine, the baseline's values among the choices. Raises InvalidInput."""
    gpu = gpu_of(spec.gpus)
    defaults = engine_defaults(knobs_of(spec.engine), gpu)
    knobs = {flag: knob for flag, knob in spec.tuning.space.items() if flag != ENGINE} or dict(
        _default_space(spec, gpu)
    )
    found = tuple(_dimension(flag, knob, defaults) for flag, knob in knobs.items())
    space = Space(base=baseline, dimensions=found).including(baseline)
    _check_choices(space, spec.engine)
    return space.dimensions


def is_lossy(config: EngineConfig, reference: EngineConfig) -> bool:
    """Say whether a config may answer differently from the reference (the baseline, taken as good)."""
    return config.alternative != reference.alternative or any(
        config.flags.get(flag) not in (*lossless, reference.flags.get(flag)) for flag, lossless in LOSSLESS.items()
    )


def engine_defaults(schema: KnobSchema, gpu: Gpu | None) -> Mapping[str, FlagValue]:
    """Return what the engine does when a flag is left out, by flag.

    The batch limits are computed at start (vLLM's `EngineArgs.get_batch_defaults`, API server): 1024 sequences and
    8192 tokens on GPUs of 70 GiB and more except A100, else 256 and 2048. Of an unknown GPU the smaller are assumed.
    """
    large = gpu is not None and gpu.large_batch_defaults
    written = {name: flag.default for name, flag in schema.flags.items() if flag.default is not None}
    computed: dict[str, FlagValue] = {
        "max-num-seqs": 1024 if large else 256,
        "max-num-batched-tokens": 8192 if large else 2048,
        "enable-chunked-prefill": True,
        "enable-prefix-caching": True,
    }
    return written | (computed if "max-num-seqs" in schema.flags else {})


def _default_space(spec: ServiceSpec, gpu: Gpu | None) -> Iterator[tuple[str, Knob]]:
    """Yield vLLM's first tier, or the few knobs known of another engine.

    Raises InvalidInput for an engine of which nothing is known.
    """
    if spec.engine.driver.has_twin:
        yield from _first_tier(spec, gpu)
        return
    found = OTHER_TIERS.get(spec.engine.kind)
    if found is None:
        raise InvalidInput(
            f"tuning.space is empty, and no flag of {spec.engine.driver.title} is known to try",
            allowed="tuning.space with at least one flag and its choices",
        )
    yield from found.items()
    if not spec.gpus.is_cpu and knobs_of(spec.engine).find("tensor-parallel-size") is not None:
        yield "tensor-parallel-size", Knob(choices=_tensor_parallel_sizes(None, spec.gpus.count))


def _first_tier(spec: ServiceSpec, gpu: Gpu | None) -> Iterator[tuple[str, Knob]]:
    shape = shape_of(spec)
    if gpu is not None and gpu.fp8_tflops is not None and (shape is None or shape.quantization is None):
        yield "quantization", Knob(choices=(None, "fp8"))
        yield "kv-cache-dtype", Knob(choices=("auto", "fp8"))
    yield "max-num-seqs", Knob(choices=_SEQS)
    yield "max-num-batched-tokens", Knob(choices=_BATCHED_TOKENS)
    yield "tensor-parallel-size", Knob(choices=_tensor_parallel_sizes(shape, spec.gpus.count))
    yield "gpu-memory-utilization", Knob(choices=(0.85, 0.92, 0.95))
    yield "enable-chunked-prefill", Knob(choices=(True, False))
    if isinstance(spec.workload, SyntheticWorkload) and spec.workload.shared_prefix_share > 0:
        yield "enable-prefix-caching", Knob(choices=(True, False))


def shape_of(spec: ServiceSpec) -> ModelShape | None:
    """Return the model's shape; None when there is no config.json to read it from (a hub name), or none the twin knows.

    Then nothing is known of its size: the search goes on without forecasts and memory rules. The same for an engine
    that the twin does not predict.
    """
    if not spec.engine.driver.has_twin:
        return None
    try:
        return cut_as(load_shape(spec.model.path), spec.engine.env)
    except UnknownModel:
        return None


def _tensor_parallel_sizes(shape: ModelShape | None, gpus: int) -> tuple[int, ...]:
    sizes = [size for size in (1, 2, 4, 8) if size <= gpus]
    return tuple(size for size in sizes if shape is None or split_problem(shape, size) is None)


def _dimension(flag: str, knob: Knob, defaults: Mapping[str, FlagValue]) -> Dimension:
    name = canonical_flag(flag)
    return dimension_of(name, knob, default=defaults.get(name)).evolve(requires=_REQUIREMENTS.get(name))


def _check_choices(space: Space, engine: EngineOptions) -> None:
    """Refuse every choice the engine would refuse, before anything is started."""
    for dimension in space.dimensions:
        for value in dimension.choices:
            if value is not None:
                check_flags(EngineConfig(flags={dimension.flag: value}), engine)
