"""What a twin that is wrong believes: perturbed parameters, or the profile of the other model."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from benchmarks.search.scenarios import Scenario
from benchmarks.search.truth import Bench, ProfileOf, Truth
from controlplane.domain.engines.engine import EngineConfig
from controlplane.services.studies.search import SIMULATED
from tuner.search.candidates import Outlook
from tuner.search.prior import screen
from tuner.search.surrogate import Array
from tuner.space.space import Space
from tuner.twin.gpus import find_gpu
from tuner.twin.profile import Parameters, Profile
from tuner.twin.setup import weight_bits
from tuner.twin.shapes import ModelShape, load_shape
from tuner.twin.transfer import profile_for

PRIOR_LEVEL_S = 30.0
_MEMORY_SD_GIB = 1.5


def perturbed(truth: Truth, *, seed: int) -> ProfileOf:
    """Return profiles whose every parameter is off by 20 to 30 %, up or down as the seed says."""
    chance = random.Random(seed)
    factors = {
        name: math.exp(chance.choice((-1, 1)) * math.log(1 + chance.uniform(0.2, 0.3)))
        for name in Parameters.model_fields
    }

    def profile_of(config: EngineConfig) -> Profile:
        found = _own(truth.shape, truth.scenario, config)
        return found.evolve(parameters=_scaled(found.parameters, factors))

    return profile_of


def wrong_model(truth: Truth) -> ProfileOf:
    """Return the profiles of the scenario's other model."""
    other = load_shape(truth.scenario.wrong_shape)
    return lambda config: _own(other, truth.scenario, config)


def forecast(truth: Truth, space: Space, rows: list[int], profile_of: ProfileOf, *, seed: int) -> Outlook | None:
    """Return what a wrong twin expects of the rows, screened as a study would."""
    bench = Bench(truth.shape, truth.scenario, profile_of, PRIOR_LEVEL_S)
    near = truth.scenario.spec.slos.target_qps / truth.scenario.spec.gpus.count

    def capacity_of(config: EngineConfig) -> float | None:
        return bench.capacity_rps(config, near * config.gpus_per_replica)

    return screen(space, [truth.points[row] for row in rows], capacity_of, effort=SIMULATED, seed=seed)


def believed_room(truth: Truth, *, seed: int) -> Array:
    """Return the memory a twin off by some GiB expects to be left for the KV cache."""
    chance = np.random.default_rng(seed)
    return np.asarray(truth.room_gib + chance.normal(0, _MEMORY_SD_GIB))


def _own(shape: ModelShape, scenario: Scenario, config: EngineConfig) -> Profile:
    return profile_for(
        shape, find_gpu(scenario.spec.gpus.type), weight_bits(shape, config), config.tensor_parallel_size
    )


def _scaled(parameters: Parameters, factors: dict[str, float]) -> Parameters:
    """Scale every parameter; shares of the data sheet stay below what the profile format allows."""
    limits = {name: _upper(name) for name in Parameters.model_fields}
    changed: dict[str, Any] = {
        name: min(getattr(parameters, name) * factor, limits[name]) for name, factor in factors.items()
    }
    return parameters.evolve(**changed)


def _upper(name: str) -> float:
    found = [getattr(rule, "le", None) for rule in Parameters.model_fields[name].metadata]
    return min((limit for limit in found if limit is not None), default=math.inf)
