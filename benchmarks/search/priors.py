"""What a twin that is wrong believes: perturbed parameters, or the profile of the other model."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from benchmarks.search.scenarios import Scenario
from benchmarks.search.trial import Outcome
from benchmarks.search.truth import LEVEL_S, Bench, ProfileOf, Truth, setup_by, true_setup
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.hardware import GpuPool
from controlplane.domain.slo import LatencyMetric
from controlplane.domain.studies.calibration import Factors, Rival
from controlplane.services.studies.forecast import workload_at
from controlplane.services.studies.search import SIMULATED
from loadtests.measure.intervals import PERCENTILES
from tuner.search.candidates import Outlook, RivalOutlook
from tuner.search.prior import screen
from tuner.search.surrogate import Array
from tuner.space.space import Space
from tuner.twin.corrected import factored, stand_in_gpu
from tuner.twin.factors import SeenLoad, tellable
from tuner.twin.gpu_sheet import Gpu
from tuner.twin.gpus import find_gpu
from tuner.twin.predict import latencies_s
from tuner.twin.profile import Parameters, Profile, shipped_profiles
from tuner.twin.rivals import explain
from tuner.twin.setup import EngineSetup, weight_bits
from tuner.twin.shapes import ModelShape, load_shape
from tuner.twin.simulate import ResultArrays, simulate
from tuner.twin.transfer import profile_for

PRIOR_LEVEL_S = 30.0
_MEMORY_SD_GIB = 1.5
_LEVELS, _LEVEL_NOISE = 4, 0.02


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
    bench = Bench(truth.shape, truth.scenario, setup_by(truth.shape, truth.scenario, profile_of), PRIOR_LEVEL_S)
    near = truth.scenario.spec.slos.target_qps / truth.scenario.spec.gpus.count

    def capacity_of(config: EngineConfig) -> float | None:
        return bench.capacity_rps(config, near * config.gpus_per_replica)

    return screen(space, [truth.points[row] for row in rows], capacity_of, effort=SIMULATED, seed=seed)


def calibrated_forecasts(
    truth: Truth, space: Space, rows: list[int], baseline: Outcome, *, seed: int
) -> list[RivalOutlook]:
    """Return what twins expect that know the baseline's levels and nothing else of GPU and model, the likeliest first:
    their GPU is taken for unknown, and no profile of that GPU or of that model is there to be carried over.
    """
    spec = truth.scenario.spec
    gpu = stand_in_gpu(GpuPool(type="unknown", count=1, price_usd_per_gpu_hour=0), truth.shape, spec.baseline)
    gpu = gpu.evolve(memory_gib=find_gpu(spec.gpus.type).memory_gib)  # what fits is `believed_room`'s business
    start = truth.configs[baseline.row]
    found = explain(
        lambda factors: factored(truth.shape, gpu, start, factors, _of_others(truth, start)),
        _levels(truth, baseline, seed),
        known=False,
    )
    ways = (Rival(factors=found.found.factors, odds=1.0), *found.rivals)
    outlooks = [(_outlook(truth, space, rows, gpu, way.factors, seed), way.odds) for way in ways]
    return [RivalOutlook(outlook, odds) for outlook, odds in outlooks if outlook is not None]


def _outlook(truth: Truth, space: Space, rows: list[int], gpu: Gpu, factors: Factors, seed: int) -> Outlook | None:
    spec = truth.scenario.spec
    near = spec.slos.target_qps / spec.gpus.count

    def setup_of(config: EngineConfig) -> EngineSetup:
        return factored(truth.shape, gpu, config, factors, _of_others(truth, config))

    bench = Bench(truth.shape, truth.scenario, setup_of, PRIOR_LEVEL_S)

    def capacity_of(config: EngineConfig) -> float | None:
        return bench.capacity_rps(config, near * config.gpus_per_replica)

    return screen(space, [truth.points[row] for row in rows], capacity_of, effort=SIMULATED // 2, seed=seed)


def _of_others(truth: Truth, config: EngineConfig) -> Profile:
    """Return the profile carried over from engines of other GPUs and other models."""
    spec = truth.scenario.spec
    others = [p for p in shipped_profiles() if p.gpu != spec.gpus.type and p.model != truth.shape.name]
    bits = weight_bits(truth.shape, config)
    return profile_for(truth.shape, Gpu(name="unknown", memory_gib=1), bits, config.tensor_parallel_size, others)


def _levels(truth: Truth, baseline: Outcome, seed: int) -> list[SeenLoad]:
    """Return what the baseline's levels measured on the true engine, with the noise of measurements."""
    chance, config = np.random.default_rng(seed), truth.configs[baseline.row]
    bench = Bench(truth.shape, truth.scenario, true_setup(truth), LEVEL_S)
    found = []
    for rate in baseline.rates_rps[-_LEVELS:]:
        requests = workload_at(truth.scenario.spec, seed=0, duration_s=LEVEL_S)(rate)
        slower = float(np.exp(chance.normal(0, _LEVEL_NOISE)))
        found.append(SeenLoad(requests, _percentiles_s(simulate(bench.setup_of(config), requests), slower)))
    return found


def _percentiles_s(result: ResultArrays, slower: float) -> dict[tuple[LatencyMetric, float], float]:
    found: dict[tuple[LatencyMetric, float], float] = {}
    for metric, values in latencies_s(result).items():
        known = values[~np.isnan(values)]
        ranks = [rank for rank in PERCENTILES if tellable(rank, len(known))]
        found |= {(metric, rank): float(np.percentile(known, rank)) * slower for rank in ranks}
    return found


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
