"""The cells: two engines, caching on and off, prompts that share nothing, half and nine tenths of their text."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.workload import SyntheticWorkload
from controlplane.services.studies.trial_plan import requests_of
from loadtests.send.profiles import Profile, load_profile
from tuner.twin.compiled_state import Floats
from tuner.twin.predict import highest_rate, latencies_s
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, simulate

FOLDER = Path(__file__).parent
SHARES = ("00", "50", "90")
FLAGS = {"max-model-len": 8192, "max-num-seqs": 256, "max-num-batched-tokens": 8192}


class Engine(NamedTuple):
    """One model shape on one GPU."""

    name: str
    shape: str
    gpu: str


DENSE = Engine("dense 8B", "llama-8b", "H200")
MIXTURE = Engine("mixture 30B-A3B", "qwen3-30b-a3b", "H100")


class Cell(NamedTuple):
    """One engine with caching on or off under one share of common text."""

    engine: Engine
    caching: bool
    share: str

    @property
    def name(self) -> str:
        return f"caching-{'on' if self.caching else 'off'}-share-{self.share}"

    @property
    def profile_path(self) -> Path:
        return FOLDER / f"share-{self.share}.yaml"

    @property
    def profile(self) -> Profile:
        """The load test of this cell; its rate is replaced by every level's."""
        return load_profile(str(self.profile_path))

    @property
    def setup(self) -> EngineSetup:
        config = EngineConfig(flags={**FLAGS, "enable-prefix-caching": self.caching})
        return resolve(load_shape(self.engine.shape), self.engine.gpu, config)


class Level(NamedTuple):
    """One rate. `worst` is the largest of measured percentile over its limit; infinite where none was measured."""

    rate_rps: float
    passed: bool
    worst: float
    valid: bool = True
    """Whether the load generator kept its schedule: else the figures are not the engine's."""


def cells_of(engine: Engine, *, caching: bool) -> tuple[Cell, ...]:
    """Return the cells that one engine start serves."""
    return tuple(Cell(engine, caching, share) for share in SHARES)


def predicted_rps(cell: Cell) -> float:
    """Return the highest rate that the twin sustains, to 1 %, over the very requests a level of that rate sends."""
    profile, setup = cell.profile, cell.setup

    def passes(rate: float) -> bool:
        requests = requests_at(profile, rate)
        return judged(profile, rate, requests.scheduled_s, latencies_s(simulate(setup, requests))).passed

    return highest_rate(passes, start_rps=8.0, precision=0.01)


def requests_at(profile: Profile, rate_rps: float) -> RequestArrays:
    """Return what a level sends, warm-up and measured time, with what its prompts share."""
    assert isinstance(profile.workload, SyntheticWorkload)
    whole_s = profile.warmup_s + profile.duration_s
    return requests_of(profile.workload, rate_rps=rate_rps, duration_s=whole_s, seed=profile.seed)


def judged(profile: Profile, rate_rps: float, scheduled_s: Floats, found: dict[LatencyMetric, Floats]) -> Level:
    """Return the level by the requests after the warm-up; latencies in seconds, NaN where a request has none."""
    counted = scheduled_s >= profile.warmup_s
    ratios = [_over_limit(slo, found[slo.metric][counted] * 1e3) for slo in profile.slos]
    return Level(rate_rps, all(ratio <= 1 for ratio in ratios), max(ratios))


def _over_limit(slo: LatencySlo, latency_ms: Floats) -> float:
    known = latency_ms[~np.isnan(latency_ms)]
    return float(np.percentile(known, slo.percentile)) / slo.limit_ms if len(known) else np.inf
