"""Ground truth: every configuration's capacity on the unperturbed twin, found once and kept in a file.

A capacity is the highest rate of a geometric grid (2 % apart) whose 60 s level, in the limit of no measurement noise,
meets every limit. Neighbours in the space have like capacities, so each search starts where the last one ended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.search.held_out import scenario_named
from benchmarks.search.scenarios import Scenario, as_it_is
from controlplane.domain.engines.engine import EngineConfig, content_hash
from controlplane.domain.errors import InvalidInput
from controlplane.host.files import write_whole
from controlplane.services.studies.forecast import workload_at
from tuner.search.surrogate import Array
from tuner.space.feasibility import memory_plan, objections
from tuner.space.first_tier import engine_defaults, shape_of
from tuner.space.knobs.schema import knobs_of
from tuner.space.space import Point
from tuner.twin.gpus import find_gpu
from tuner.twin.predict import meets
from tuner.twin.profile import Profile
from tuner.twin.setup import DoesNotFit, EngineSetup, resolve
from tuner.twin.shapes import ModelShape
from tuner.twin.simulate import RequestArrays, simulate

GRID = 1.02
LEVEL_S = 60.0
_FIRST_INDEX, _LAST_INDEX = -100, 300  # 0.14 to 380 requests/s
_FORMAT = 3  # part of the cache's name: raise it when the meaning of the numbers changes

ProfileOf = Callable[[EngineConfig], Profile | None]


class Truth(NamedTuple):
    """Per allowed point: its config, capacity per replica (0: none), and whether its memory suffices."""

    scenario: Scenario
    shape: ModelShape
    points: Sequence[Point]
    configs: Sequence[EngineConfig]
    capacity_rps: Array
    fits: np.ndarray[tuple[int], np.dtype[np.bool_]]
    room_gib: Array

    @property
    def log_cost(self) -> Array:
        """Logarithm of GPUs per request per second; infinite without a capacity."""
        gpus = np.array([config.gpus_per_replica for config in self.configs])
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(gpus) - np.log(self.capacity_rps))

    @property
    def best(self) -> float:
        return float(self.log_cost.min())


def ground_truth(scenario: Scenario, cache: Path) -> Truth:
    """Return the truth of a scenario, from the cache when it holds this very question."""
    shape = shape_of(scenario.spec)
    assert shape is not None  # scenarios use shipped shapes
    space = scenario.space
    defaults = engine_defaults(knobs_of(scenario.spec.engine), find_gpu(scenario.spec.gpus.type))
    points, configs = [], []
    for point in space.points():
        config = space.config(point)
        # Rules between flags only: whether the memory suffices is what the contestants have to find out.
        if not objections(config, pool=scenario.spec.gpus, shape=None, defaults=defaults):
            points.append(point)
            configs.append(config)
    plans = [memory_plan(config, pool=scenario.spec.gpus, shape=shape) for config in configs]
    capacities = _cached(scenario, shape, configs, cache)
    return Truth(
        scenario,
        shape,
        points,
        configs,
        capacities,
        np.array([plan is not None and plan.fits for plan in plans]),
        np.array([math.nan if plan is None else plan.kv_gib for plan in plans]),
    )


class Bench(NamedTuple):
    """Capacities of configurations on one version of the twin."""

    shape: ModelShape
    scenario: Scenario
    setup_of: Callable[[EngineConfig], EngineSetup]
    level_s: float

    def capacity_rps(self, config: EngineConfig, near_rps: float) -> float | None:
        """Return the capacity, searched from `near_rps`; 0 when it fits not or meets the limits nowhere."""
        try:
            setup = self.setup_of(config)
        except DoesNotFit:
            return 0.0
        except InvalidInput:
            return None
        return self._climb(setup, round(math.log(max(near_rps, 0.2), GRID)))

    def _climb(self, setup: EngineSetup, start: int) -> float:
        """Gallop away from the start until the verdict changes, then bisect on the grid."""
        slos = self.scenario.spec.slos.latency

        def passes(index: int) -> bool:
            return meets(slos, simulate(setup, requests(self.scenario, index, self.level_s)))

        up = passes(start)
        low, high, stride = start, start, 4
        while True:
            edge = high + stride if up else low - stride
            if not _FIRST_INDEX <= edge <= _LAST_INDEX:
                return 0.0 if not up else GRID**_LAST_INDEX
            low, high = (high, edge) if up else (edge, low)
            if passes(edge) != up:
                break
            stride *= 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if passes(middle) else (low, middle)
        return float(GRID**low)


def setup_by(shape: ModelShape, scenario: Scenario, profile_of: ProfileOf) -> Callable[[EngineConfig], EngineSetup]:
    """Return what makes engines by the profiles of a twin."""
    return lambda config: resolve(shape, scenario.spec.gpus.type, config, profile_of(config))


def true_setup(truth: Truth) -> Callable[[EngineConfig], EngineSetup]:
    """Return what makes the true engines of a scenario, its oddity included."""
    return _true_setup(truth.shape, truth.scenario)


def _true_setup(shape: ModelShape, scenario: Scenario) -> Callable[[EngineConfig], EngineSetup]:
    plain = setup_by(shape, scenario, true_profile)
    return lambda config: scenario.oddity(plain(config), config)


def requests(scenario: Scenario, index: int, level_s: float) -> RequestArrays:
    """Return one level's requests at a rate of the grid."""
    return _requests(scenario.name, index, level_s)


@lru_cache(maxsize=600)
def _requests(name: str, index: int, level_s: float) -> RequestArrays:
    return workload_at(scenario_named(name).spec, seed=0, duration_s=level_s)(GRID**index)


def true_profile(_: EngineConfig) -> Profile | None:
    """The ground truth is the shipped twin as it is."""
    return None


def _cached(scenario: Scenario, shape: ModelShape, configs: Sequence[EngineConfig], cache: Path) -> Array:
    setup = resolve(shape, scenario.spec.gpus.type, EngineConfig(flags={"tensor-parallel-size": 4}))
    question = {
        "format": _FORMAT,
        "spec": scenario.spec.model_dump(mode="json", exclude_defaults=True),
        "configs": [config.content_hash() for config in configs],
        "profile": setup.profile.model_dump(mode="json", exclude={"kv_bits"}),  # a label: it changes no latency
        **_odd(scenario, setup),
    }
    path = cache / f"search-truth-{scenario.name}-{content_hash(question)}.json"
    if path.exists():
        return np.array(json.loads(path.read_text()))
    bench = Bench(shape, scenario, _true_setup(shape, scenario), LEVEL_S)
    found: list[float] = []
    near = 5.0
    for config in configs:
        capacity = bench.capacity_rps(config, near) or 0.0
        near = capacity or near
        found.append(capacity)
    write_whole(path, json.dumps(found), private=False)
    return np.array(found)


def _odd(scenario: Scenario, setup: EngineSetup) -> dict[str, object]:
    """Return what tells one oddity from another; nothing where there is none."""
    if scenario.oddity is as_it_is:
        return {}
    flags = EngineConfig(flags={"quantization": "fp8", "kv-cache-dtype": "fp8", "tensor-parallel-size": 2})
    odd = scenario.oddity(setup, flags)
    beside = odd.model_dump(mode="json", exclude={"cost", "profile", "memory"})
    same = beside == setup.model_dump(mode="json", exclude={"cost", "profile", "memory"})
    return {"oddity": odd.cost._asdict(), **({} if same else {"beside": beside})}
