"""The rate ladder alone, on simulated requests: how near to the truth it comes, and for how many seconds of load.

Every level is simulated request by request and judged by the code that judges real levels, twice a second. Each level's
latencies are scaled by a random factor (2 % standard deviation: a machine is not the same twice). A level lasts 60 s,
or as long as 200 requests take where they come more slowly (on fewer a P95 means little). Ladder and rival begin where
a study does: at the capacity forecast by a twin whose every parameter is 20 to 30 % off. The rival doubles or halves
to a bracket and bisects that to 5 %, with whole levels however clear they are.

The truth is the capacity without noise on whole levels with the same seed of arrivals: what candidates are compared by.
Which rates pass is not monotone within some per cent of it, so it is the threshold that agrees with most of the
verdicts on a grid of 1 %. What the same grid says with noise (81 whole levels, beyond any budget) is reported as the
ceiling. The truth is not what the service carries in the long run: a minute's arrivals and lengths are luck, the same
for every candidate. How far the found capacities are from the long run (20 minutes of other arrivals) is reported
beside it; only more seconds of load bring that down, and confirmation and headroom have to cover it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.priors import perturbed
from benchmarks.search.truth import Truth
from controlplane.domain.engine import EngineConfig
from controlplane.domain.service import LevelOptions, ServiceSpec
from controlplane.services.study_search import workload_at
from tuner.ladder import Ladder, LadderOptions, Rung
from tuner.level import LevelJudge, LevelOutcome, Looks, pressure
from tuner.prior import twin_capacity
from tuner.surrogate import Array
from tuner.twin.predict import meets
from tuner.twin.profile import Profile
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.simulate import RequestArrays, simulate

WITHIN = 0.05
_NOISE = 0.02
_LOOK_S = 0.5
_WHOLE_S = 60.0
_FEWEST_REQUESTS = 200
_LONG_S, _LONG_SEED = 1200.0, 99
_GRID, _REACH = 0.01, 0.4  # log rate: where the truth is looked for around a first guess


class Finished(NamedTuple):
    """A finished request as the judge wants it."""

    ok: bool
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


class Climb(NamedTuple):
    """One ladder: what it found, between which bounds, and what it cost."""

    rps: float
    low_rps: float
    high_rps: float
    load_s: float
    levels: int


class Run(NamedTuple):
    """Ladder and rival on one configuration, the two truths, and the truth as seen through noise."""

    ours: Climb
    fixed: Climb
    truth_rps: float
    ceiling_rps: float
    long_run_rps: float


class Level(NamedTuple):
    """A simulated level in order of completion."""

    requests: Sequence[Finished]
    ends_s: Array
    scheduled_s: Array


def compare_ladders(truth: Truth, *, configs: int, seed: int) -> dict[str, Any]:
    """Return how often ladder and fixed bisection were within 5 % of the truth, and their seconds of load."""
    chance = random.Random(seed)
    able = [row for row in range(len(truth.points)) if truth.capacity_rps[row] > 0.5 and truth.fits[row]]
    runs = [_run(truth, truth.configs[row], chance.randrange(10**6)) for row in chance.sample(able, configs)]
    errors = np.array([run.ours.rps / run.truth_rps - 1 for run in runs])
    rival = np.array([run.fixed.rps / run.truth_rps - 1 for run in runs])
    ceiling = np.array([run.ceiling_rps / run.truth_rps - 1 for run in runs])
    return {
        "name": truth.scenario.name,
        "runs": configs,
        "within_5_percent": _share(np.abs(errors) <= WITHIN),
        "fixed_within_5_percent": _share(np.abs(rival) <= WITHIN),
        "ceiling_within_5_percent": _share(np.abs(ceiling) <= WITHIN),
        "load_seconds": round(sum(run.ours.load_s for run in runs)),
        "fixed_load_seconds": round(sum(run.fixed.load_s for run in runs)),
        "load_seconds_share_of_fixed": _share([run.ours.load_s / run.fixed.load_s for run in runs]),
        "interval_holds_truth": _share([run.ours.low_rps <= run.truth_rps <= run.ours.high_rps for run in runs]),
        "levels": _share([run.ours.levels for run in runs]),
        "error": {
            "median": round(float(np.median(errors)), 4),
            "p95_abs": round(float(np.quantile(np.abs(errors), 0.95)), 4),
        },
        "error_against_long_run": {
            "median_abs": _middle([abs(run.ours.rps / run.long_run_rps - 1) for run in runs]),
            "fixed_median_abs": _middle([abs(run.fixed.rps / run.long_run_rps - 1) for run in runs]),
        },
    }


def _run(truth: Truth, config: EngineConfig, seed: int) -> Run:
    start = _capacity(truth, config, seed, perturbed(truth, seed=seed)(config))
    bench = _Bench(truth.scenario.spec, _setup(truth, config), seed=seed)
    long_run = twin_capacity(
        truth.shape,
        truth.scenario.spec.gpus.type,
        workload_at(truth.scenario.spec, seed=_LONG_SEED, duration_s=_LONG_S),
        truth.scenario.spec.slos.latency,
        start_rps=start,
        precision=0.01,
    )(config)
    near = _capacity(truth, config, seed, None)
    ours, fixed = bench.climb(start), bench.bisect(start)
    exact, noisy = bench.thresholds(near)
    return Run(ours, fixed, exact, noisy, long_run or 1e-9)


def _share(values: Any) -> float:
    return round(float(np.mean(values)), 3)


def _middle(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 4)


class _Bench:
    """One configuration's engine, noise included."""

    def __init__(self, spec: ServiceSpec, setup: EngineSetup, *, seed: int) -> None:
        self._spec = spec
        self._setup = setup
        self._chance = random.Random(seed)
        self._seed = seed
        self._options = LevelOptions()

    def thresholds(self, near_rps: float) -> tuple[float, float]:
        """Return the rates that agree with most verdicts around `near_rps`: without noise (the truth), and with it."""
        rates = near_rps * np.exp(np.arange(-_REACH, _REACH + _GRID / 2, _GRID))
        slos = self._spec.slos.latency
        exact, noisy = [], []
        for rate in rates:
            result = simulate(self._setup, _arrays(self._spec, float(rate), self._seed))
            slower = math.exp(self._chance.gauss(0, _NOISE))
            exact.append(meets(slos, result))
            noisy.append(meets(slos, result._replace(ttft_s=result.ttft_s * slower, tpot_s=result.tpot_s * slower)))
        return _threshold(near_rps, np.array(exact)), _threshold(near_rps, np.array(noisy))

    def climb(self, start_rps: float) -> Climb:
        ladder = Ladder(
            options=LadderOptions(floor_rps=0.01, max_levels=14), start_rps=start_rps, forecast_rps=start_rps
        )
        load_s = 0.0
        while (rate := ladder.next_rate()) is not None:
            outcome, seconds = self._judged(rate, may_pass_early=ladder.may_pass_early(rate))
            load_s += seconds
            ladder = ladder.climbed(
                Rung(
                    rate_rps=rate,
                    passed=outcome.passed,
                    certain=outcome.certain,
                    pressure=outcome.pressure,
                    whole=outcome.whole,
                )
            )
        found = ladder.capacity()
        if found is None:
            return Climb(0.0, 0.0, ladder.high_rps, load_s, len(ladder.rungs))
        return Climb(found.rps, found.low_rps, found.high_rps, load_s, len(ladder.rungs))

    def bisect(self, start_rps: float) -> Climb:
        """Double or halve to a bracket, then bisect to 5 %; every level takes its full time."""
        low, high, levels, rate, load_s = 0.0, math.inf, 0, start_rps, 0.0
        while levels < 20 and not high / max(low, 1e-9) <= 1 + WITHIN:
            levels += 1
            load_s += _whole_s(rate)
            if self._estimate(self._level(rate)).passed:
                low = rate
            else:
                high = rate
            rate = low * 2 if math.isinf(high) else high / 2 if low == 0 else math.sqrt(low * high)
        found = math.sqrt(low * high) if low > 0 and high < math.inf else low
        return Climb(found, low, high, load_s, levels)

    def _judged(self, rate: float, *, may_pass_early: bool) -> tuple[LevelOutcome, float]:
        """Run one level under the judge; at its time limit the shares of misses decide, as a report's would."""
        whole_s, level = _whole_s(rate), self._level(rate)
        judge = LevelJudge(self._spec.slos, self._options, planned=rate * whole_s, may_pass_early=may_pass_early)
        for now_s in np.arange(_LOOK_S, whole_s, _LOOK_S):
            done = int(np.searchsorted(level.ends_s, now_s, side="right"))
            in_flight = int(np.searchsorted(level.scheduled_s, now_s, side="right")) - done
            if judge.watch(Looks(float(now_s), in_flight, level.requests[:done])) is not None:
                return judge.decided(), float(now_s)
        return self._estimate(level), whole_s

    def _estimate(self, level: Level) -> LevelOutcome:
        misses = [
            (sum((getattr(r, slo.metric.value) or 0.0) > slo.limit_ms for r in level.requests), slo.allowed_miss_ratio)
            for slo in self._spec.slos.latency
        ]
        count = len(level.requests)
        passed = all(missed <= allowed * count + 1e-9 for missed, allowed in misses)
        return LevelOutcome(passed, False, "estimate", max(pressure(missed, count, of) for missed, of in misses))

    def _level(self, rate: float) -> Level:
        arrays = _arrays(self._spec, rate, self._seed)
        result = simulate(self._setup, arrays)
        slower = 1e3 * math.exp(self._chance.gauss(0, _NOISE))
        ends_s = arrays.scheduled_s + result.e2e_s * slower / 1e3
        order = np.argsort(ends_s)
        requests = [
            Finished(True, result.ttft_s[row] * slower, result.tpot_s[row] * slower, result.e2e_s[row] * slower)
            for row in order
        ]
        return Level(requests, ends_s[order], arrays.scheduled_s)


def _threshold(near_rps: float, passes: NDArray[np.bool_]) -> float:
    wrong = np.array([np.sum(~passes[:at]) + np.sum(passes[at:]) for at in range(len(passes) + 1)])
    best = float(np.flatnonzero(wrong == wrong.min()).mean())
    return float(near_rps * math.exp(-_REACH + (best - 0.5) * _GRID))


def _whole_s(rate: float) -> float:
    return max(_WHOLE_S, _FEWEST_REQUESTS / rate)


def _arrays(spec: ServiceSpec, rate: float, seed: int) -> RequestArrays:
    return workload_at(spec, seed=seed, duration_s=_WHOLE_S)(rate)  # no fewer than 200 requests


def _setup(truth: Truth, config: EngineConfig) -> EngineSetup:
    return resolve(truth.shape, truth.scenario.spec.gpus.type, config)


def _capacity(truth: Truth, config: EngineConfig, seed: int, profile: Profile | None) -> float:
    """Return what a twin with this profile expects of whole levels with this seed of arrivals."""
    spec = truth.scenario.spec
    requests_at = workload_at(spec, seed=seed, duration_s=_WHOLE_S)
    capacity_of = twin_capacity(
        truth.shape, spec.gpus.type, requests_at, spec.slos.latency, start_rps=5.0, profile=profile, precision=0.01
    )
    return capacity_of(config) or float(truth.capacity_rps[truth.configs.index(config)])
