"""Carrying a profile over to what was never measured: another shape, precision, parallelism or GPU."""

from __future__ import annotations

from tuner.twin.gpus import Gpu
from tuner.twin.profile import Profile, shipped_profiles
from tuner.twin.shapes import ModelShape

_BUILTIN = "data-sheet"


def profile_for(shape: ModelShape, gpu: Gpu, weight_bits: int, tensor_parallel_size: int) -> Profile:
    """Return the nearest shipped profile, carried over; the data sheet's defaults when none is shipped."""
    wanted = Profile(
        name=_BUILTIN,
        gpu=gpu.name,
        model=shape.name,
        weight_bits=weight_bits,
        tensor_parallel_size=tensor_parallel_size,
        uncertainty=0.3,
        transferred_from=_BUILTIN,
    )
    profiles = shipped_profiles()
    if not profiles:
        return wanted
    nearest = min(profiles, key=lambda profile: _distance(profile, wanted))
    if _distance(nearest, wanted) == 0:
        return nearest
    return nearest.evolve(uncertainty=nearest.uncertainty * 2.5, transferred_from=nearest.name)


def _distance(profile: Profile, wanted: Profile) -> float:
    return (
        8.0 * (profile.gpu != wanted.gpu)
        + 4.0 * (profile.weight_bits != wanted.weight_bits)
        + 2.0 * (profile.model != wanted.model)
        + 1.0 * (profile.tensor_parallel_size != wanted.tensor_parallel_size)
    )
