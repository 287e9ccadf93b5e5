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
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.search.priors import perturbed, wrong_model
from benchmarks.search.truth import Truth
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.tuning_options import LevelOptions
from controlplane.services.studies.forecast import workload_at
from tuner.ladder.fitted_twin import FittedTwin, SeenLevel
from tuner.ladder.ladder import Ladder, LadderOptions
from tuner.ladder.level import LevelJudge, LevelOutcome, Looks, pressure, rung_of
from tuner.search.prior import twin_capacity
from tuner.search.surrogate import Array
from tuner.twin.predict import meets, threshold
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
    """The ladder, without a fitted twin, with the other model's twin; the rival; both truths; the truth with noise."""

    ours: Climb
    unfitted: Climb
    wrong_model: Climb
    fixed: Climb
    truth_rps: float
    ceiling_rps: float
    long_run_rps: float


class Level(NamedTuple):
    """A simulated level in order of completion."""

    requests: Sequence[Finished]
    ends_s: Array
    scheduled_s: Array


class Judged(NamedTuple):
    """How a level ended: after how many seconds, and what it showed until then."""

    outcome: LevelOutcome
    load_s: float
    seen: SeenLevel


def compare_ladders(truth: Truth, *, configs: int, seed: int) -> dict[str, Any]:
    """Return how often ladder and fixed bisection were within 5 % of the truth, and their seconds of load."""
    chance = random.Random(seed)
    able = [row for row in range(len(truth.points)) if truth.capacity_rps[row] > 0.5 and truth.fits[row]]
    runs = [_run(truth, truth.configs[row], chance.randrange(10**6)) for row in chance.sample(able, configs)]
    errors = np.array([run.ours.rps / run.truth_rps - 1 for run in runs])
    return {
        "name": truth.scenario.name,
        "runs": configs,
        "within_5_percent": _within([run.ours.rps for run in runs], runs),
        "unfitted_within_5_percent": _within([run.unfitted.rps for run in runs], runs),
        "wrong_model_within_5_percent": _within([run.wrong_model.rps for run in runs], runs),
        "fixed_within_5_percent": _within([run.fixed.rps for run in runs], runs),
        "ceiling_within_5_percent": _within([run.ceiling_rps for run in runs], runs),
        "load_seconds": round(sum(run.ours.load_s for run in runs)),
        "fixed_load_seconds": round(sum(run.fixed.load_s for run in runs)),
        "load_seconds_share_of_fixed": _share([run.ours.load_s / run.fixed.load_s for run in runs]),
        "unfitted_load_seconds_share_of_fixed": _share([run.unfitted.load_s / run.fixed.load_s for run in runs]),
        "wrong_model_load_seconds_share_of_fixed": _share([run.wrong_model.load_s / run.fixed.load_s for run in runs]),
        "interval_holds_truth": _share([run.ours.low_rps <= run.truth_rps <= run.ours.high_rps for run in runs]),
        "unfitted_interval_holds_truth": _share(
            [run.unfitted.low_rps <= run.truth_rps <= run.unfitted.high_rps for run in runs]
        ),
        "levels": _share([run.ours.levels for run in runs]),
        "unfitted_levels": _share([run.unfitted.levels for run in runs]),
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
    wrong = perturbed(truth, seed=seed)(config)
    start = _capacity(truth, config, seed, wrong)
    twin = _fitted(truth, config, seed, wrong, start)
    bench = _Bench(truth.scenario.spec, _setup(truth, config), seed=seed)
    long_run = twin_capacity(
        lambda config: _setup(truth, config),
        workload_at(truth.scenario.spec, seed=_LONG_SEED, duration_s=_LONG_S),
        truth.scenario.spec.slos.latency,
        start_rps=start,
        precision=0.01,
    )(config)
    near = _capacity(truth, config, seed, None)
    ours, unfitted, fixed = bench.climb(start, twin), bench.climb(start), bench.bisect(start)
    other = wrong_model(truth)(config)
    far = _capacity(truth, config, seed, other)
    misled = bench.climb(far, _fitted(truth, config, seed, other, far))
    exact, noisy = bench.thresholds(near)
    return Run(ours, unfitted, misled, fixed, exact, noisy, long_run or 1e-9)


def _within(found_rps: Sequence[float], runs: Sequence[Run]) -> float:
    return _share([abs(found / run.truth_rps - 1) <= WITHIN for found, run in zip(found_rps, runs, strict=True)])


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
        return threshold(rates, np.array(exact)), threshold(rates, np.array(noisy))

    def climb(self, start_rps: float, twin: FittedTwin | None = None) -> Climb:
        """Climb as a trial does; `twin` learns from every level."""
        ladder = Ladder(
            options=LadderOptions(floor_rps=0.01, max_levels=14), start_rps=start_rps, forecast_rps=start_rps
        )
        load_s = 0.0
        while (rate := ladder.next_rate()) is not None:
            outcome, seconds, seen = self._judged(rate, may_pass_early=ladder.may_pass_early(rate))
            load_s += seconds
            if twin is not None:
                twin.see(seen)
            fitted = None if twin is None else twin.capacity_rps()
            ladder = ladder.climbed(rung_of(rate, outcome), fitted_rps=fitted)
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

    def _judged(self, rate: float, *, may_pass_early: bool) -> Judged:
        """Run one level under the judge; at its time limit the shares of misses decide, as a report's would."""
        whole_s, level = _whole_s(rate), self._level(rate)
        judge = LevelJudge(self._spec.slos, self._options, planned=rate * whole_s, may_pass_early=may_pass_early)
        for now_s in np.arange(_LOOK_S, whole_s, _LOOK_S):
            done = int(np.searchsorted(level.ends_s, now_s, side="right"))
            in_flight = int(np.searchsorted(level.scheduled_s, now_s, side="right")) - done
            if judge.watch(Looks(float(now_s), in_flight, level.requests[:done])) is not None:
                seen = self._seen(rate, level.requests[:done], until_s=float(now_s))
                return Judged(judge.decided(), float(now_s), seen)
        return Judged(self._estimate(level), whole_s, self._seen(rate, level.requests))

    def _seen(self, rate: float, requests: Sequence[Finished], until_s: float | None = None) -> SeenLevel:
        """Return what a level's report says: percentiles over requests that have the metric."""
        measured = {}
        for slo in self._spec.slos.latency:
            known = [value for r in requests if (value := getattr(r, slo.metric.value)) == value]
            if known:
                measured[slo] = float(np.percentile(known, slo.percentile))
        return SeenLevel(rate, len(requests), measured, until_s)

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


def _whole_s(rate: float) -> float:
    return max(_WHOLE_S, _FEWEST_REQUESTS / rate)


def _arrays(spec: ServiceSpec, rate: float, seed: int) -> RequestArrays:
    return workload_at(spec, seed=seed, duration_s=_WHOLE_S)(rate)  # no fewer than 200 requests


def _setup(truth: Truth, config: EngineConfig) -> EngineSetup:
    return resolve(truth.shape, truth.scenario.spec.gpus.type, config)


def _fitted(truth: Truth, config: EngineConfig, seed: int, profile: Profile | None, start_rps: float) -> FittedTwin:
    spec = truth.scenario.spec
    setup = resolve(truth.shape, spec.gpus.type, config, profile)
    requests_at = workload_at(spec, seed=seed, duration_s=_WHOLE_S)
    return FittedTwin(setup, requests_at, spec.slos.latency, start_rps=start_rps)


def _capacity(truth: Truth, config: EngineConfig, seed: int, profile: Profile | None) -> float:
    """Return what a twin with this profile expects of whole levels with this seed of arrivals."""
    spec = truth.scenario.spec
    requests_at = workload_at(spec, seed=seed, duration_s=_WHOLE_S)
    setup_of = partial(resolve, truth.shape, spec.gpus.type, profile=profile)
    capacity_of = twin_capacity(setup_of, requests_at, spec.slos.latency, start_rps=5.0, precision=0.01)
    return capacity_of(config) or float(truth.capacity_rps[truth.configs.index(config)])
