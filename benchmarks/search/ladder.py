"""The rate ladder alone, on simulated requests: how near to the truth it comes, and for how many seconds of load.

Every level is simulated request by request and judged by the code that judges real levels, twice a second. Each level's
latencies are scaled by a random factor (2 % standard deviation: a machine is not the same twice). The truth is the
capacity without noise at whole levels with the same seed of arrivals, found to 1 %: what a candidate is compared by
(another seed or a longer level has another capacity, by 5 to 15 %). The rival bisects with fixed 60 s levels.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.search.truth import Truth
from controlplane.domain.engine import EngineConfig
from controlplane.domain.service import LevelOptions, ServiceSpec
from controlplane.services.study_search import workload_at
from tuner.ladder import Ladder, LadderOptions, Rung
from tuner.level import LevelJudge, LevelOutcome, Looks
from tuner.prior import twin_capacity
from tuner.surrogate import Array
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.simulate import RequestArrays, simulate

WITHIN = 0.05
_NOISE = 0.02
_LOOK_S = 0.5
_FIXED_S = 60.0


class Finished(NamedTuple):
    """A finished request as the judge wants it."""

    ok: bool
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


class Climb(NamedTuple):
    """One ladder: what it found and what it cost."""

    rps: float
    load_s: float
    levels: int


class Level(NamedTuple):
    """A simulated level in order of completion."""

    requests: Sequence[Finished]
    ends_s: Array
    scheduled_s: Array


def compare_ladders(truth: Truth, *, configs: int, seed: int) -> dict[str, Any]:
    """Return how often ladder and fixed bisection were within 5 % of the truth, and their seconds of load."""
    chance = random.Random(seed)
    able = [row for row in range(len(truth.points)) if truth.capacity_rps[row] > 0.5 and truth.fits[row]]
    ours, fixed, wins, rival = 0.0, 0.0, 0, 0
    errors = []
    for row in chance.sample(able, configs):
        config = truth.configs[row]
        arrivals = chance.randrange(10**6)
        exact = _exact(truth, config, arrivals)
        start = exact * math.exp(chance.uniform(-0.5, 0.5))
        bench = _Bench(truth.scenario.spec, _setup(truth, config), seed=arrivals)
        mine, theirs = bench.climb(start), bench.bisect(start)
        ours, fixed = ours + mine.load_s, fixed + theirs.load_s
        errors.append(mine.rps / exact - 1)
        wins += abs(mine.rps / exact - 1) <= WITHIN
        rival += abs(theirs.rps / exact - 1) <= WITHIN
    return {
        "name": truth.scenario.name,
        "runs": configs,
        "within_5_percent": round(wins / configs, 3),
        "fixed_within_5_percent": round(rival / configs, 3),
        "load_seconds_share_of_fixed": round(ours / fixed, 3),
        "error": {
            "median": round(float(np.median(errors)), 4),
            "p95_abs": round(float(np.quantile(np.abs(errors), 0.95)), 4),
        },
    }


class _Bench:
    """One configuration's engine, noise included."""

    def __init__(self, spec: ServiceSpec, setup: EngineSetup, *, seed: int) -> None:
        self._spec = spec
        self._setup = setup
        self._chance = random.Random(seed)
        self._seed = seed
        self._options = LevelOptions()

    def climb(self, start_rps: float) -> Climb:
        ladder = Ladder(options=LadderOptions(floor_rps=0.01, max_levels=14), start_rps=start_rps)
        load_s = 0.0
        while (rate := ladder.next_rate()) is not None:
            outcome, seconds = self._judged(rate)
            load_s += seconds
            ladder = ladder.climbed(
                Rung(rate_rps=rate, passed=outcome.passed, certain=outcome.certain, pressure=outcome.pressure)
            )
        found = ladder.capacity()
        return Climb(found.rps if found else 0.0, load_s, len(ladder.rungs))

    def bisect(self, start_rps: float) -> Climb:
        """Double or halve to a bracket, then bisect to 5 %; every level takes its full 60 s."""
        low, high, levels, rate = 0.0, math.inf, 0, start_rps
        while levels < 20 and not high / max(low, 1e-9) <= 1 + WITHIN:
            levels += 1
            if self._passes(rate):
                low = rate
            else:
                high = rate
            rate = low * 2 if math.isinf(high) else high / 2 if low == 0 else math.sqrt(low * high)
        return Climb(math.sqrt(low * high) if low > 0 and high < math.inf else low, levels * _FIXED_S, levels)

    def _judged(self, rate: float) -> tuple[LevelOutcome, float]:
        """Run one level under the judge; at its time limit the shares of misses decide, as a report's would."""
        total_s = self._options.warmup_s + self._options.max_s
        level = self._level(rate, total_s)
        judge = LevelJudge(self._spec.slos, self._options)
        for now_s in np.arange(_LOOK_S, total_s, _LOOK_S):
            done = int(np.searchsorted(level.ends_s, now_s, side="right"))
            in_flight = int(np.searchsorted(level.scheduled_s, now_s, side="right")) - done
            if judge.watch(Looks(float(now_s), in_flight, level.requests[:done])) is not None:
                return judge.decided(), float(now_s)
        return self._estimate(level), total_s

    def _passes(self, rate: float) -> bool:
        return self._estimate(self._level(rate, _FIXED_S)).passed

    def _estimate(self, level: Level) -> LevelOutcome:
        pressures = [
            float(np.mean([(getattr(r, slo.metric.value) or 0.0) > slo.limit_ms for r in level.requests]))
            / slo.allowed_miss_ratio
            for slo in self._spec.slos.latency
        ]
        worst = max(pressures)
        return LevelOutcome(worst <= 1 + 1e-9, False, "estimate", worst)

    def _level(self, rate: float, total_s: float) -> Level:
        arrays = _arrays(self._spec, rate, total_s, self._seed)
        result = simulate(self._setup, arrays)
        slower = 1e3 * math.exp(self._chance.gauss(0, _NOISE))
        ends_s = arrays.scheduled_s + result.e2e_s
        order = np.argsort(ends_s)
        requests = [
            Finished(True, result.ttft_s[row] * slower, result.tpot_s[row] * slower, result.e2e_s[row] * slower)
            for row in order
        ]
        return Level(requests, ends_s[order], arrays.scheduled_s)


def _arrays(spec: ServiceSpec, rate: float, duration_s: float, seed: int) -> RequestArrays:
    return workload_at(spec, seed=seed, duration_s=duration_s)(rate)


def _setup(truth: Truth, config: EngineConfig) -> EngineSetup:
    return resolve(truth.shape, truth.scenario.spec.gpus.type, config)


def _exact(truth: Truth, config: EngineConfig, seed: int) -> float:
    """Return the noise-free capacity of whole levels with this seed of arrivals."""
    spec = truth.scenario.spec
    requests_at = workload_at(spec, seed=seed, duration_s=_FIXED_S)
    capacity_of = twin_capacity(
        truth.shape, spec.gpus.type, requests_at, spec.slos.latency, start_rps=5.0, precision=0.01
    )
    return capacity_of(config) or 1e-9
