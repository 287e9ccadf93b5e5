"""Carrying profiles over to what was never measured: another shape, precision, parallelism or GPU.

Parameters are shares of the data sheet and overheads, so they move little between engines. What they do move is learnt
from the profiles there are (`trends`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tuner.twin.checkpoints import SIXTEEN_BITS
from tuner.twin.gpu_sheet import Gpu
from tuner.twin.layers import Trait
from tuner.twin.profile import Profile, shipped_profiles
from tuner.twin.shapes import SHIPPED_SHAPES, ModelShape, load_shape

_DATA_SHEET_UNCERTAINTY = 0.35
_OTHER_GPU, _OTHER_PRECISION, _PER_DOUBLED_GPUS, _PER_DOUBLED_SIZE = 0.07, 0.08, 0.09, 0.03
"""What each difference adds to the 1-sigma relative error of the engine's speed (in quadrature): leave-one-out over the
shipped profiles, with some room, since engines kept aside were missed by more than those the table was made on."""
_OTHER_GENERATION = 0.25
"""A GPU of another generation or vendor than any that was measured: a judgement, none was."""
_FOUR_BITS = 0.25
"""No engine with 4-bit weights was measured: a judgement."""
_OTHER_TRAIT: Mapping[Trait, float] = MappingProxyType(
    {Trait.MIXTURE: 0.40, Trait.LATENT: 0.30, Trait.SLIDING: 0.20, Trait.STATE: 0.40}
)
"""What a kind of layer adds that the nearest profile has not: judgements, but for the mixture."""


def profile_for(
    shape: ModelShape,
    gpu: Gpu,
    weight_bits: int,
    tensor_parallel_size: int,
    profiles: Sequence[Profile] | None = None,
) -> Profile:
    """Return the profile of exactly this engine among `profiles` (the shipped ones), or one carried over from them."""
    known = shipped_profiles() if profiles is None else profiles
    wanted = Profile(
        name="data-sheet",
        gpu=gpu.name,
        model=shape.name,
        linear_params=shape.linear_params,
        weight_bits=weight_bits,
        tensor_parallel_size=tensor_parallel_size,
        traits=shape.traits,
        uncertainty=_DATA_SHEET_UNCERTAINTY,
        transferred_from="the data sheet",
    )
    exact = [profile for profile in known if _is_for(profile, shape, wanted)]
    if exact:
        return exact[0]
    return _carried_over(wanted, [profile for profile in known if profile.linear_params is not None])


def _is_for(profile: Profile, shape: ModelShape, wanted: Profile) -> bool:
    same_kind = (profile.gpu, profile.weight_bits, profile.tensor_parallel_size) == (
        wanted.gpu,
        wanted.weight_bits,
        wanted.tensor_parallel_size,
    )
    return same_kind and (profile.model == shape.name or _has_shape(profile, shape))


def _has_shape(profile: Profile, shape: ModelShape) -> bool:
    """The same architecture under another name, e.g. a local folder."""
    if profile.model not in SHIPPED_SHAPES:
        return False
    unnamed = {"name": "", "architecture": "", "max_position_embeddings": 1, "checkpoint": SIXTEEN_BITS}
    return load_shape(profile.model).evolve(**unnamed) == shape.evolve(**unnamed)


def _carried_over(wanted: Profile, sources: Sequence[Profile]) -> Profile:
    if not sources:
        return wanted.evolve(uncertainty=math.hypot(_DATA_SHEET_UNCERTAINTY, _strange(wanted.traits, ())))
    from tuner.twin.trends import regressed  # numpy: an engine that was measured starts without it

    nearest = min(sources, key=lambda profile: _uncertainty(profile, wanted))
    return wanted.evolve(
        name=f"{wanted.gpu}-{wanted.model}-{wanted.weight_bits}bit-tp{wanted.tensor_parallel_size}".lower(),
        parameters=regressed(wanted, sources),
        engine_version=nearest.engine_version,
        calibrated=nearest.calibrated,
        uncertainty=round(_uncertainty(nearest, wanted), 4),
        transferred_from=nearest.name,
    )


def distance(source: Profile, wanted: Profile) -> float:
    """Return what the steps from one kind of engine to another add to the 1-sigma relative error of its speed."""
    parts = (
        _other_gpu(source.gpu, wanted.gpu),
        _OTHER_PRECISION * (source.weight_bits != wanted.weight_bits),
        _FOUR_BITS * (wanted.weight_bits == 4 != source.weight_bits),
        _PER_DOUBLED_GPUS * abs(math.log2(source.tensor_parallel_size / wanted.tensor_parallel_size)),
        _PER_DOUBLED_SIZE * abs(math.log2((source.linear_params or 1) / (wanted.linear_params or 1))),
        _strange(wanted.traits, source.traits),
        _strange(source.traits, wanted.traits) / 2,
    )
    return math.sqrt(sum(part**2 for part in parts))


def _uncertainty(source: Profile, wanted: Profile) -> float:
    return math.hypot(source.uncertainty, distance(source, wanted))


def _other_gpu(source: str, wanted: str) -> float:
    if source == wanted:
        return 0.0
    return _OTHER_GPU if _generation(source) == _generation(wanted) else _OTHER_GENERATION


def _generation(gpu: str) -> str:
    return "hopper" if gpu.startswith(("H100", "H200", "H800", "GH200")) and "MIG" not in gpu else gpu


def _strange(wanted: Sequence[Trait], known: Sequence[Trait]) -> float:
    return math.sqrt(sum(_OTHER_TRAIT[trait] ** 2 for trait in wanted if trait not in known))
