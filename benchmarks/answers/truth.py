"""What is true of a scenario: capacities, fleets, whether a fleet holds; from long runs on arrivals no study sees."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers.routing import Lane, Served, serve
from benchmarks.answers.scenarios import Scenario
from controlplane.domain.engines.engine import EngineConfig, content_hash
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.studies.capacity import FleetSize, fleet_size, replicas_for
from controlplane.services.studies.trial_plan import requests_of
from tuner.answer.objective import shortfalls
from tuner.space.feasibility import objections
from tuner.space.first_tier import engine_defaults
from tuner.space.knobs.schema import knobs_of
from tuner.twin.gpus import find_gpu
from tuner.twin.predict import highest_rate

LONG_S = 1800.0
_WARMUP_S = 20.0
_SEEDS = (900_001,)  # of arrivals and lengths; studies count from their own seed, far below
_FLEET_SEEDS = (900_011, 900_012)
_PRECISION = 0.01
_FIRST_S = 300.0  # of the runs that say where the long ones begin
_HOPE = 1.5  # by which half an hour may sustain more than its first minutes
_FORMAT = 1  # part of the cache's names: raise it when the meaning of the numbers changes


class Fleet(NamedTuple):
    """The fleet that a configuration truly needs for the target, headroom and spares included."""

    config: EngineConfig
    size: FleetSize
    fits: bool  # the GPUs there are, and the ceilings


class Truth:
    """One scenario's truth, kept in files under `folder` as it is found."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._folder = folder

    def configs(self) -> list[EngineConfig]:
        """Return every configuration that the space allows, the baseline first."""
        spec, space = self._scenario.spec, self._scenario.space
        defaults = engine_defaults(knobs_of(spec.engine), find_gpu(spec.gpus.type))
        found = {spec.baseline.content_hash(): spec.baseline}
        for point in space.points():
            config = space.config(point)
            if not objections(config, pool=spec.gpus, shape=None, defaults=defaults):
                found.setdefault(config.content_hash(), config)
        return list(found.values())

    def capacity_rps(self, config: EngineConfig) -> float:
        """Return the highest rate that one replica sustains for half an hour; 0 for none."""
        known = self._remembered("capacity", config)
        if known is None:
            known = self._remember("capacity", config, self._found_capacity(config))
        return known

    def fleet(self, config: EngineConfig) -> Fleet | None:
        """Return the fleet a configuration truly needs; None when no number of replicas would do."""
        capacity = self.capacity_rps(config)
        return None if capacity <= 0 else self._sized(config, capacity)

    def holds(self, config: EngineConfig, replicas: int) -> bool:
        """Say whether so many replicas together truly meet every limit at the target, over an hour of arrivals."""
        name = f"holds-{replicas}"
        known = self._remembered(name, config)
        if known is None:
            known = self._remember(name, config, float(self._holds(config, replicas)))
        return bool(known)

    def best(self) -> Fleet | None:
        """Return a cheapest fleet that fits; None when the target is out of reach.

        Half an hour is simulated only of configurations that a few minutes let hope for a cheaper fleet than those
        before them, the most promising first.
        """
        hoped = sorted(((self._hoped_usd(config), config) for config in self.configs()), key=lambda pair: pair[0])
        best, least_usd = None, math.inf
        for hoped_usd, config in hoped:
            if hoped_usd >= least_usd:
                break
            fleet = self.fleet(config)
            if fleet is not None and fleet.fits and fleet.size.usd_per_hour < least_usd:
                best, least_usd = fleet, fleet.size.usd_per_hour
        return best

    def baseline(self) -> Fleet | None:
        """Return the fleet that the baseline needs, whether it fits or not; None when none would do."""
        return self.fleet(self._scenario.spec.baseline)

    def _hoped_usd(self, config: EngineConfig) -> float:
        """Return USD per hour of its fleet if it sustains `_HOPE` times its first minutes; infinite if none fits."""
        rough = self._rough_rps(config)
        hoped = None if rough == 0 else self._sized(config, rough * _HOPE)
        return hoped.size.usd_per_hour if hoped is not None and hoped.fits else math.inf

    def _sized(self, config: EngineConfig, capacity_rps: float) -> Fleet:
        spec = self._scenario.spec
        objective = spec.tuning.objective
        replicas = replicas_for(
            spec.slos.target_qps, capacity_rps, headroom=objective.headroom, spare=objective.spare_replicas
        )
        size = fleet_size(replicas, config.gpus_per_replica, spec.gpus)
        return Fleet(config, size, not shortfalls(spec, size))

    def _rough_rps(self, config: EngineConfig) -> float:
        known = self._remembered("rough", config)
        return self._remember("rough", config, self._found_rough(config)) if known is None else known

    def _found_rough(self, config: EngineConfig) -> float:
        spec = self._scenario.spec
        start = spec.slos.target_qps / spec.gpus.count
        return highest_rate(self._passes(config, _FIRST_S), start_rps=start, precision=0.05)

    def _found_capacity(self, config: EngineConfig) -> float:
        rough = self._rough_rps(config)
        return 0.0 if rough == 0 else _narrowed(self._passes(config, LONG_S), rough)

    def _passes(self, config: EngineConfig, span_s: float) -> Callable[[float], bool]:
        setup = self._scenario.nature.setup(config)
        return lambda rate: setup is not None and meets(self._scenario, [Lane(setup)], rate, span_s, _SEEDS)

    def _holds(self, config: EngineConfig, replicas: int) -> bool:
        setup = self._scenario.nature.setup(config)
        if setup is None:
            return False
        lanes = [Lane(setup)] * replicas
        return meets(self._scenario, lanes, self._scenario.spec.slos.target_qps, LONG_S, _FLEET_SEEDS)

    def _remembered(self, what: str, config: EngineConfig) -> float | None:
        path = self._path(what, config)
        return float(json.loads(path.read_text())) if path.exists() else None

    def _remember(self, what: str, config: EngineConfig, value: float) -> float:
        path = self._path(what, config)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(value))
        part.replace(path)
        return value

    def _path(self, what: str, config: EngineConfig) -> Path:
        return self._folder / self._question() / f"{what}-{config.content_hash()}.json"

    def _question(self) -> str:
        spec, nature = self._scenario.spec, self._scenario.nature
        setup = nature.setup(spec.baseline)
        asked = {
            "format": _FORMAT,
            "shape": nature.shape.model_dump(mode="json"),
            "nature": nature.seed,
            "baseline": None if setup is None else [*setup.cost, setup.kv_blocks],
            "workload": spec.workload.model_dump(mode="json"),
            "slos": spec.slos.model_dump(mode="json"),
            "gpus": spec.gpus.model_dump(mode="json"),
        }
        return f"answers-{self._scenario.name}-{content_hash(asked)}"


def meets(scenario: Scenario, lanes: Sequence[Lane], rate_rps: float, span_s: float, seeds: Sequence[int]) -> bool:
    """Say whether engines meet every limit at a rate, all seeds' requests pooled."""
    slos = scenario.spec.slos.latency
    misses, requests = np.zeros(len(slos)), 0
    for seed in seeds:
        arrivals = requests_of(scenario.spec.workload, rate_rps=rate_rps, duration_s=span_s, seed=seed)
        served, counted = serve(lanes, arrivals), arrivals.scheduled_s >= _WARMUP_S
        misses += [int((missed(served, slo) & counted).sum()) for slo in slos]
        requests += int(counted.sum())
    return all(count <= slo.allowed_miss_ratio * requests for count, slo in zip(misses, slos, strict=True))


def missed(served: Served, slo: LatencySlo) -> NDArray[np.bool_]:
    """Say of every request whether it exceeded a limit; a TPOT that is undefined passes."""
    values_s = {LatencyMetric.TTFT: served.ttft_s, LatencyMetric.TPOT: served.tpot_s, LatencyMetric.E2E: served.e2e_s}
    return np.asarray(np.nan_to_num(values_s[slo.metric], nan=0.0) * 1e3 > slo.limit_ms)


def _narrowed(passes: Callable[[float], bool], near: float) -> float:
    """Return the highest rate that passes: from a rate near it by steps of 4 %, then bisected."""
    step = 1.04
    up = passes(near)
    low, high = (near, near * step) if up else (near / step, near)
    while up and passes(high):
        low, high = high, high * step
    while not up and not passes(low):
        low, high = low / step, low
    while high - low > _PRECISION * high:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low
