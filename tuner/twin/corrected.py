"""An engine as a study's own calibration has it: the carried-over profile, each part as much slower as was measured.

A GPU or a model that no table holds gets a stand-in first: a data sheet and an arithmetic to hang the factors on. What
a stand-in says is never used without factors that were measured on the very engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from controlplane.domain.studies.calibration import Calibration, Factors
from tuner.twin.config_file import UnknownModel, read_config
from tuner.twin.gpu_sheet import GPUS, Gpu
from tuner.twin.gpus import gpu_of
from tuner.twin.memory import plan_memory
from tuner.twin.profile import Parameters, Profile
from tuner.twin.setup import EngineSetup, memory_demand, resolve, weight_bits
from tuner.twin.shapes import ModelShape, guess_shape, load_shape
from tuner.twin.stages import cut_as
from tuner.twin.transfer import distance, profile_for

NAME = "calibrated-here"
_SHEET = GPUS["H100"]
"""Whose data sheet an unknown GPU's factors are over: the shipped profiles are of Hopper GPUs."""
_SIZES_GIB = tuple(sorted({gpu.memory_gib for gpu in GPUS.values() if gpu.memory_gib >= _SHEET.memory_gib}))
_LAUNCH = ("launch_graph_ms", "launch_piecewise_ms", "launch_eager_ms", "step_fixed_ms", "sequence_us")
_CORE = ("prompt_ms", "schedule_ms", "schedule_sequence_us")
_SERVER = ("intake_ms", "intake_token_us", "output_us", "wire_ms", "wire_token_us")


def stand_in_shape(path: str, env: Mapping[str, str]) -> ModelShape | None:
    """Return the model's shape; of an architecture outside the table what its sizes make of the nearest kind.

    `env` is the engine's environment, which may cut it into pipeline stages. None where there is no config.json, or its
    sizes are not all there.
    """
    try:
        return cut_as(load_shape(path), env)
    except UnknownModel:
        pass
    try:
        return cut_as(guess_shape(read_config(path), name=Path(path).name), env)
    except UnknownModel:
        return None


def stand_in_gpu(pool: GpuPool, shape: ModelShape, started: EngineConfig) -> Gpu:
    """Return the pool's GPU; where its speed is not known, one of a known speed and of the pool's memory.

    Where that is not known either, it is the least of the sheet's from 80 GB on that holds `started`, which ran.
    """
    found = gpu_of(pool)
    if found is not None and found.has_speed:
        return found
    known = {} if found is None else {k: v for k, v in found if v is not None and k != "link_gb_s"}
    gpu = _SHEET.evolve(**{**known, "name": pool.type})
    return gpu if found is not None else _that_holds(gpu, shape, started)


def setup_here(
    shape: ModelShape, gpu: Gpu, config: EngineConfig, calibration: Calibration, base: Profile | None = None
) -> EngineSetup:
    """Return the engine `config` makes by the calibration. `base` is what the factors are over, else what is carried
    over. Raises as `resolve` does. Flags the twin does not follow are in what was measured: they are no doubt here.
    """
    bits, tensor = weight_bits(shape, config), config.tensor_parallel_size
    carried = base or profile_for(shape, gpu, bits, tensor)
    measured = carried.evolve(
        weight_bits=calibration.weight_bits, tensor_parallel_size=calibration.tensor_parallel_size
    )
    uncertainty = math.hypot(calibration.uncertainty, distance(measured, carried))
    profile = carried.evolve(
        name=NAME,
        parameters=_slower(carried.parameters, calibration.factors),
        uncertainty=uncertainty,
        kv_bits=calibration.kv_bits,
        transferred_from=None,
    )
    setup = resolve(shape, _slower_gpu(gpu, calibration.factors), config, profile)
    return _sized(setup.evolve(unfollowed=()), calibration.factors)


def factored(
    shape: ModelShape, gpu: Gpu, config: EngineConfig, factors: Factors, base: Profile | None = None
) -> EngineSetup:
    """Return the engine `config` makes with factors that are only tried. Raises as `resolve` does."""
    carried = base or profile_for(shape, gpu, weight_bits(shape, config), config.tensor_parallel_size)
    profile = carried.evolve(parameters=_slower(carried.parameters, factors))
    return _sized(resolve(shape, _slower_gpu(gpu, factors), config, profile), factors)


def _sized(setup: EngineSetup, factors: Factors) -> EngineSetup:
    """Return an engine whose steps also cost what its flags allow, be it there or not, or hold less than they allow."""
    if (factors.seat_us, factors.padding, factors.piece_tokens, factors.cache) == (0, 0, 0, 1):
        return setup
    cost = setup.cost
    seats_s = factors.seat_us * 1e-6 * setup.max_num_seqs
    padding = factors.padding * setup.max_num_batched_tokens
    return setup.evolve(
        cost=cost._replace(fixed_s=cost.fixed_s + seats_s, knee_tokens=cost.knee_tokens + padding),
        long_prefill_token_threshold=_piece(setup.long_prefill_token_threshold, factors.piece_tokens),
        kv_blocks=max(_blocks_of_one(setup), int(setup.kv_blocks * factors.cache)),
    )


def _piece(threshold: int, piece_tokens: float) -> int:
    """Return the lower of two limits, 0 is none."""
    limits = [limit for limit in (threshold, math.ceil(piece_tokens)) if limit > 0]
    return min(limits, default=0)


def _blocks_of_one(setup: EngineSetup) -> int:
    """Return the blocks below which the longest request would never run, as many as there are at most."""
    return min(setup.kv_blocks, math.ceil(setup.max_model_len / setup.block_size) + 1)


def _that_holds(gpu: Gpu, shape: ModelShape, started: EngineConfig) -> Gpu:
    sized = (gpu.evolve(memory_gib=size) for size in _SIZES_GIB)
    try:
        return next((each for each in sized if plan_memory(shape, each, memory_demand(shape, each, started)).fits), gpu)
    except InvalidInput:  # flags whose memory the twin does not count
        return gpu


def _slower_gpu(gpu: Gpu, factors: Factors) -> Gpu:
    """Efficiencies end at the data sheet's figure, which of a stand-in says nothing: the sheet itself is moved."""

    def by(rate: float | None, factor: float) -> float | None:
        return None if rate is None else rate / factor

    return gpu.evolve(
        bandwidth_gb_s=by(gpu.bandwidth_gb_s, factors.memory),
        bf16_tflops=by(gpu.bf16_tflops, factors.compute),
        fp8_tflops=by(gpu.fp8_tflops, factors.compute),
        fp4_tflops=by(gpu.fp4_tflops, factors.compute),
    )


def _slower(parameters: Parameters, factors: Factors) -> Parameters:
    launch = {name: getattr(parameters, name) * factors.launch for name in (*_LAUNCH, *_CORE)}
    launch["launch_eager_ms"] *= factors.eager
    server = {name: getattr(parameters, name) * factors.server for name in _SERVER}
    server["output_us"] *= factors.stream
    return parameters.evolve(**launch, **server)
