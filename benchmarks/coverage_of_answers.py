"""How often the capacities and gains that a study states hold the truth, and how often no gain is called one.

`python -m benchmarks.coverage_of_answers [--configs N --rounds R --seed S --json OUT]`

The truth is the rate that the twin sustains for 30 minutes of arrivals and rows that no run sees. Every configuration
is measured by the product's own ladder and judge, level by level on simulated requests: once under the search's
arrivals, then in rounds under fresh ones, two configurations in a round under the same. What `tuner.answer` believes
after them is held against the truth, pair by pair where a decision is close (gains of at most a third).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.search.scenarios import Scenario, scenarios
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.studies.tuning_options import LevelOptions
from controlplane.domain.workload import TracePart, TraceWorkload
from controlplane.services.studies.trial_plan import requests_of
from tuner.answer.fleets import Interval, ratio
from tuner.answer.likelihood import Run, Seen
from tuner.answer.posterior import Belief, Subject, believe
from tuner.ladder.fitted_twin import FittedTwin, SeenLevel
from tuner.ladder.ladder import Ladder, LadderOptions
from tuner.ladder.level import LevelJudge, LevelOutcome, Looks, pressure, rung_of
from tuner.space.feasibility import objections
from tuner.space.first_tier import engine_defaults, shape_of
from tuner.space.knobs.schema import knobs_of
from tuner.twin.gpus import find_gpu
from tuner.twin.predict import highest_rate, latencies_s
from tuner.twin.setup import DoesNotFit, EngineSetup, resolve
from tuner.twin.simulate import RequestArrays, simulate

TRUTH_S = 1800.0
_TRUTH_SEEDS = (900_001, 900_002)
_NOISE_SD = 0.02  # log; of a level's speed, as `bench search` takes it
_LOOK_S = 0.5
_CLOSE = 0.35  # log; pairs whose decision matters
_USEFUL_RPS = 0.5


class Lab(NamedTuple):
    """A scenario's engines and what they are loaded with."""

    scenario: Scenario
    options: LevelOptions

    def requests(self, rate_rps: float, span_s: float, seed: int) -> RequestArrays:
        workload = self.scenario.spec.workload
        if isinstance(workload, TraceWorkload):
            workload = workload.evolve(part=TracePart.HELD_OUT)
        return requests_of(workload, rate_rps=rate_rps, duration_s=span_s, seed=seed)


class Candidate(NamedTuple):
    """A configuration, its true capacity, and its runs: the search's first, then one a round."""

    gpus: int
    true_rps: float
    runs: tuple[Run, ...]

    def belief(self, rounds: Sequence[int]) -> Belief:
        chosen = (self.runs[0], *(self.runs[1 + number] for number in rounds))
        return believe({"it": Subject(chosen, self.gpus)})["it"]


class _Finished(NamedTuple):
    ok: bool
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


def true_capacity(lab: Lab, setup: EngineSetup, near_rps: float) -> float:
    """Return the rate sustained for 30 minutes, geometric mean of two seeds."""

    def passes(rate: float, seed: int) -> bool:
        requests = lab.requests(rate, TRUTH_S, seed)
        result = simulate(setup, requests)
        found = latencies_s(result)
        for slo in lab.scenario.spec.slos.latency:
            late = (np.nan_to_num(found[slo.metric] * 1e3, nan=-1) > slo.limit_ms) | ~result.finished
            if late.mean() > slo.allowed_miss_ratio:
                return False
        return True

    rates = [
        highest_rate(lambda rate, seed=seed: passes(rate, seed), start_rps=near_rps, precision=0.01)  # type: ignore[misc]
        for seed in _TRUTH_SEEDS
    ]
    return 0.0 if min(rates) <= 0 else math.exp(float(np.mean(np.log(rates))))


def run_of(lab: Lab, setup: EngineSetup, *, seed: int, start_rps: float, chance: random.Random) -> Run:
    """Return the levels of one engine life, as the product's ladder chooses and its judge ends them."""
    slos, options = lab.scenario.spec.slos, lab.options
    ladder = Ladder(
        options=LadderOptions(precision=options.precision, floor_rps=0.05),
        start_rps=start_rps,
        forecast_rps=start_rps,
    )
    span_s = options.warmup_s + options.max_s

    def arriving(rate: float) -> RequestArrays:
        return lab.requests(rate, span_s, seed)

    twin = FittedTwin(setup, arriving, slos.latency, start_rps=start_rps, warmup_s=options.warmup_s)
    seen: list[Seen] = []
    while (rate := ladder.next_rate()) is not None:
        slower = math.exp(chance.gauss(0, _NOISE_SD))
        outcome, level, told = _level(lab, setup, rate, seed, slower, early=ladder.may_pass_early(rate))
        seen.append(level)
        twin.see(told)
        ladder = ladder.climbed(rung_of(rate, outcome), fitted_rps=twin.capacity_rps())
    return Run(tuple(seen))


def _level(
    lab: Lab, setup: EngineSetup, rate: float, seed: int, slower: float, *, early: bool
) -> tuple[LevelOutcome, Seen, SeenLevel]:
    options, slos = lab.options, lab.scenario.spec.slos
    requests = lab.requests(rate, options.warmup_s + options.max_s, seed)
    rows, ends_s, sent_s = _rows(setup, requests, options.warmup_s, slower)
    judge = LevelJudge(slos, options, planned=rate * options.max_s, may_pass_early=early)
    for now_s in np.arange(_LOOK_S, options.max_s, _LOOK_S):
        done = int(np.searchsorted(ends_s, now_s + options.warmup_s))
        arrived = int(np.searchsorted(sent_s, now_s + options.warmup_s))
        if judge.watch(Looks(float(now_s), arrived - done, rows[:done])) is not None:
            return _told(lab, judge.decided(), rows[:done], rate, arrived, float(now_s) + options.warmup_s)
    counts = [(_misses(rows, slo), slo.allowed_miss_ratio) for slo in slos.latency]
    passed = all(missed <= allowed * len(rows) + 1e-9 for missed, allowed in counts)
    worst = max(pressure(missed, len(rows), allowed) for missed, allowed in counts)
    return _told(lab, LevelOutcome(passed, False, "at the time limit", worst), rows, rate, len(rows), None)


def _told(
    lab: Lab, outcome: LevelOutcome, rows: list[_Finished], rate: float, arrived: int, until_s: float | None
) -> tuple[LevelOutcome, Seen, SeenLevel]:
    slos, count = lab.scenario.spec.slos.latency, len(rows)
    worst = max(slos, key=lambda slo: pressure(_misses(rows, slo), count, slo.allowed_miss_ratio))
    seen = Seen(
        rate, count, _misses(rows, worst), worst.allowed_miss_ratio, arrived, outcome.passed, whole=until_s is None
    )
    measured = {}
    for slo in slos:
        values = [value for row in rows if (value := getattr(row, slo.metric.value)) is not None]
        if values:
            measured[slo] = float(np.percentile(values, slo.percentile))
    return outcome, seen, SeenLevel(rate, count, measured, until_s)


def _rows(
    setup: EngineSetup, requests: RequestArrays, warmup_s: float, slower: float
) -> tuple[list[_Finished], Any, Any]:
    result, keep = simulate(setup, requests), requests.scheduled_s >= warmup_s
    ends = requests.scheduled_s[keep] + result.e2e_s[keep] * slower
    order = np.argsort(ends)
    ttft, tpot, e2e = (v[keep][order] * slower * 1e3 for v in (result.ttft_s, result.tpot_s, result.e2e_s))
    rows = [
        _Finished(True, float(a), None if math.isnan(b) else float(b), float(c))
        for a, b, c in zip(ttft, tpot, e2e, strict=True)
    ]
    return rows, ends[order], requests.scheduled_s[keep]


def _misses(rows: Sequence[_Finished], slo: Any) -> int:
    return sum((getattr(row, slo.metric.value) or 0) > slo.limit_ms for row in rows)


def candidates(scenario: Scenario, *, configs: int, rounds: int, seed: int) -> list[Candidate]:
    """Return random configurations of a scenario, measured."""
    spec, chance = scenario.spec, random.Random(seed)
    lab, shape = Lab(scenario, LevelOptions()), shape_of(spec)
    assert shape is not None  # the scenarios' models are known
    defaults, points = engine_defaults(knobs_of(spec.engine), find_gpu(spec.gpus.type)), list(scenario.space.points())
    found: list[Candidate] = []
    while len(found) < configs:
        config = scenario.space.config(chance.choice(points))
        if objections(config, pool=spec.gpus, shape=shape, defaults=defaults):
            continue
        if (one := _measured(lab, config, rounds, chance)) is not None:
            found.append(one)
    return found


def _measured(lab: Lab, config: EngineConfig, rounds: int, chance: random.Random) -> Candidate | None:
    shape = shape_of(lab.scenario.spec)
    assert shape is not None
    try:
        setup = resolve(shape, lab.scenario.spec.gpus.type, config)
    except DoesNotFit:
        return None
    truth = true_capacity(lab, setup, 5.0)
    if truth < _USEFUL_RPS:
        return None
    runs = [
        run_of(lab, setup, seed=7919 + number, start_rps=truth * math.exp(chance.gauss(0, 0.15)), chance=chance)
        for number in range(rounds + 1)
    ]
    return Candidate(config.gpus_per_replica, truth, tuple(runs))


def judged(found: Sequence[Candidate]) -> dict[str, float | int]:
    """Return shares that the stated intervals hold, and of gains called that are none."""
    rounds = len(found[0].runs) - 1
    capacities, errors, gains, false, widths = [], [], [], [], []
    pairs = list(itertools.combinations(range(rounds), 2))
    for chosen in pairs:
        beliefs = [each.belief(chosen) for each in found]
        for each, belief in zip(found, beliefs, strict=True):
            capacities.append(belief.quantile(0.025) <= each.true_rps <= belief.quantile(0.975))
            errors.append(math.log(belief.median_rps / each.true_rps))
            widths.append(math.log(belief.quantile(0.975) / belief.quantile(0.025)) / 2)
        for (one, mine), (other, theirs) in itertools.permutations(zip(found, beliefs, strict=True), 2):
            truth = math.log(one.true_rps / one.gpus) - math.log(other.true_rps / other.gpus)
            if abs(truth) > _CLOSE:
                continue
            stated = _gain(one, mine, other, theirs)
            gains.append(stated.low <= math.exp(truth) <= stated.high)
            if truth <= 0:
                false.append(stated.low > 1)
    return {
        "capacities": len(capacities),
        "capacity_coverage": round(float(np.mean(capacities)), 3),
        "capacity_bias": round(float(np.mean(errors)), 3),
        "capacity_error_sd": round(float(np.std(errors)), 3),
        "capacity_half_width": round(float(np.mean(widths)), 3),
        "pairs": len(gains),
        "gain_coverage": round(float(np.mean(gains)), 3) if gains else math.nan,
        "no_gains_called_gains": round(float(np.mean(false)), 3) if false else math.nan,
    }


def _gain(one: Candidate, mine: Belief, other: Candidate, theirs: Belief) -> Interval:
    return ratio(mine.samples() / one.gpus, theirs.samples() / other.gpus)


def main() -> None:
    """Measure, judge and print; with --json also write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report = {}
    for scenario in scenarios():
        found = candidates(scenario, configs=given.configs, rounds=given.rounds, seed=given.seed)
        report[scenario.name] = judged(found)
        print(scenario.name, report[scenario.name], flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
