"""Runs every contestant on every scenario and seed, and says how soon each was within 5 % of the optimum."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache as remember
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.search.contestants import Episode, contestants
from benchmarks.search.held_out import scenario_named
from benchmarks.search.long_run import keeps_slos
from benchmarks.search.paired import FEWEST, LEVEL, Paired, paired
from benchmarks.search.scenarios import scenarios
from benchmarks.search.truth import Truth, ground_truth

WITHIN = 0.05
MAX_STARTS = 40
BUDGETS = (1, 2, 3, 4, 6, 8, 12, 20, 40)
"""Engine starts after which searches are compared."""

Job = tuple[str, str, int]
"""Scenario, contestant and seed."""


class Score(NamedTuple):
    """One episode in figures. `starts` and `gpu_seconds` to 5 % are infinite when it never got there.

    `slo_missed`: the recommended load (capacity less headroom) missed a limit within 30 minutes of other arrivals;
    `slo_missed_in_minute`: it is more than the capacity on the minute that was tuned on.
    """

    contestant: str
    starts: float
    gpu_seconds: float
    total_starts: int
    total_gpu_seconds: float
    final_gap: float
    slo_missed: bool
    slo_missed_in_minute: bool
    oom_starts: int
    gaps: tuple[float, ...]


def compare(
    seeds: Sequence[int],
    *,
    cache: Path,
    workers: int,
    chosen: Sequence[str],
    say: Callable[[str], None],
    playing: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the report: per scenario and contestant, medians over the seeds, and whether the targets were met.

    `playing` are the contestants, all of them when empty.
    """
    names = chosen or [scenario.name for scenario in scenarios()]
    jobs = [(name, contestant, seed) for name in names for contestant in playing or contestants() for seed in seeds]
    with ProcessPoolExecutor(workers) as pool:
        for name in pool.map(_prepare, names, [cache] * len(names)):
            say(f"ground truth of {name} is there")
        played = pool.map(_play, *zip(*jobs, strict=True), [cache] * len(jobs), chunksize=4)
        scores = list(_counted(played, len(jobs), say))
    return report(dict(zip(jobs, scores, strict=True)), {name: _truth(name, cache) for name in names}, seeds)


def _counted(scores: Iterable[Score], total: int, say: Callable[[str], None]) -> Iterator[Score]:
    """Pass the scores on and say about twenty times how many there are: the whole comparison takes its time."""
    for done, each in enumerate(scores, start=1):
        if done % max(1, total // 20) == 0:
            say(f"{done} of {total} runs")
        yield each


def report(by_job: Mapping[Job, Score], truths: Mapping[str, Truth], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the figures of finished episodes: one per scenario, contestant and seed."""
    played = dict.fromkeys(contestant for _, contestant, _ in by_job)
    rows = [
        _scenario_report(name, {c: [by_job[name, c, seed] for seed in seeds] for c in played}, truth)
        for name, truth in truths.items()
    ]
    needed = {"ours", "ours_wrong_model", "optuna_tpe", "random"}
    targets = _targets(by_job, list(truths), seeds) if needed <= set(played) else {}
    targets |= per_scenario_targets(rows)
    return {"scenarios": rows, "seeds": list(seeds), "max_starts": MAX_STARTS, "targets": targets}


def score(truth: Truth, episode: Episode, name: str) -> Score:
    """Judge one episode by the truth: the incumbent counts with its *true* cost, not with what was measured."""
    best, gap, spent = math.inf, math.inf, 0.0
    starts, seconds = math.inf, math.inf
    gaps = []
    recommended, load_rps = None, 0.0
    for number, outcome in enumerate(episode.outcomes, start=1):
        spent += outcome.gpu_seconds
        if outcome.measured_rps is not None:
            measured = math.log(truth.configs[outcome.row].gpus_per_replica / outcome.measured_rps)
            if measured < best:
                best, recommended, load_rps = measured, outcome.row, _load_rps(truth, outcome.measured_rps)
                gap = math.exp(float(truth.log_cost[outcome.row]) - truth.best) - 1
        gaps.append(gap)
        if gap <= WITHIN and math.isinf(starts):
            starts, seconds = number, spent
    return Score(
        name,
        starts,
        seconds,
        len(episode.outcomes),
        spent,
        gap,
        recommended is not None and not keeps_slos(truth, recommended, load_rps),
        recommended is not None and load_rps > float(truth.capacity_rps[recommended]),
        sum(outcome.oom for outcome in episode.outcomes),
        tuple(gaps),
    )


def _load_rps(truth: Truth, measured_rps: float) -> float:
    """Return the load that is recommended for a replica of a measured capacity."""
    return measured_rps * (1 - truth.scenario.spec.tuning.objective.headroom)


@remember
def _truth(name: str, cache: Path) -> Truth:
    return ground_truth(scenario_named(name), cache)


def _prepare(name: str, cache: Path) -> str:
    _truth(name, cache)
    return name


def _play(name: str, contestant: str, seed: int, cache: Path) -> Score:
    truth = _truth(name, cache)
    return score(truth, contestants()[contestant](truth, seed, MAX_STARTS), contestant)


def _scenario_report(name: str, mine: dict[str, list[Score]], truth: Truth) -> dict[str, Any]:
    best = int(np.argmin(truth.log_cost))
    return {
        "name": name,
        "configurations": len(truth.points),
        "optimum": {
            "flags": dict(truth.configs[best].flags),
            "capacity_rps": round(float(truth.capacity_rps[best]), 3),
        },
        "share_within_5_percent": round(float((truth.log_cost <= truth.best + math.log1p(WITHIN)).mean()), 4),
        "contestants": [_contestant_report(contestant, scores) for contestant, scores in mine.items()],
    }


def _contestant_report(name: str, scores: Sequence[Score]) -> dict[str, Any]:
    starts = [s.starts for s in scores]
    return {
        "name": name,
        "starts_to_5_percent": {"median": _number(_quantile(starts, 0.5)), "p90": _number(_quantile(starts, 0.9))},
        "gpu_seconds_to_5_percent": {"median": _number(_quantile([s.gpu_seconds for s in scores], 0.5))},
        "reached": sum(math.isfinite(s) for s in starts),
        "runs": len(scores),
        "slo_missed": sum(s.slo_missed for s in scores),
        "slo_missed_in_minute": sum(s.slo_missed_in_minute for s in scores),
        "oom_starts": statistics.median(s.oom_starts for s in scores),
        "final_gap": {"median": _number(_quantile([s.final_gap for s in scores], 0.5))},
        "starts_until_stop": {"median": statistics.median(s.total_starts for s in scores)},
        "gpu_seconds_until_stop": {"median": round(statistics.median(s.total_gpu_seconds for s in scores))},
        "median_gap_after": {str(k): _number(_gap_after(scores, k)) for k in BUDGETS},
        "gaps_after": {str(k): [_number(gap) for gap in _gaps_after(scores, k)] for k in BUDGETS},
    }


def _gap_after(scores: Sequence[Score], starts: int) -> float:
    return _quantile(_gaps_after(scores, starts), 0.5)


def _gaps_after(scores: Sequence[Score], starts: int) -> list[float]:
    """Return every run's gap after so many starts; a search that ended before keeps what it had."""
    return [s.gaps[min(starts, len(s.gaps)) - 1] for s in scores]


def _targets(by_job: Mapping[Job, Score], names: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Say of every target what it asks, what was reached and whether that is met. Pooled over scenarios."""

    def pooled(contestant: str) -> list[Score]:
        return [by_job[name, contestant, seed] for name in names for seed in seeds]

    ours, tpe = pooled("ours"), pooled("optuna_tpe")
    wrong, chance = pooled("ours_wrong_model"), pooled("random")
    ratio = _quantile([s.gpu_seconds for s in tpe], 0.5) / _quantile([s.gpu_seconds for s in ours], 0.5)
    budgets = range(1, MAX_STARTS + 1)
    worse = [k for k in budgets if _gap_after(wrong, k) > _gap_after(chance, k) + 1e-9]
    kept = 1 - sum(s.slo_missed for s in ours) / len(ours)
    return {
        "median_starts": _target("≤ 6", _quantile([s.starts for s in ours], 0.5), lambda x: x <= 6),
        "p90_starts": _target("≤ 10", _quantile([s.starts for s in ours], 0.9), lambda x: x <= 10),
        "gpu_seconds_tpe_over_ours": _target("≥ 5", ratio, lambda x: x >= 5),
        "budgets_worse_than_random_with_wrong_profile": _target("0", float(len(worse)), lambda x: x == 0),
        "share_keeping_slos": _target("≥ 0.99", kept, lambda x: x >= 0.99),
        "median_oom_starts": _target("0", statistics.median(s.oom_starts for s in ours), lambda x: x == 0),
    }


def per_scenario_targets(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say what is asked of the search that nobody calibrated for, in every scenario by itself."""
    found: dict[str, Any] = {}
    for row in rows:
        by_name = {each["name"]: each for each in row["contestants"]}
        for mine in ("ours_calibrated", "ours_without_twin"):
            if mine in by_name and "random" in by_name:
                found |= _against(row["name"], mine, by_name)
    return found


def _against(scenario: str, mine: str, by_name: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    ours, tpe = by_name[mine], by_name.get("optuna_tpe")
    found: dict[str, Any] = {}
    for rival in ("random", "optuna_tpe"):
        if rival in by_name:
            found |= _never_worse(f"{scenario}: budgets at which {mine} is worse than {rival}", ours, by_name[rival])
    kept = 1 - ours["slo_missed"] / ours["runs"]
    found[f"{scenario}: share of {mine} keeping its SLOs"] = _target("≥ 0.99", kept, lambda x: x >= 0.99)
    if mine == "ours_calibrated":
        starts = _or_never(ours["starts_to_5_percent"]["median"])
        found[f"{scenario}: median starts of {mine}"] = _target("≤ 4", starts, lambda x: x <= 4)
    if mine == "ours_calibrated" and tpe is not None:
        seconds = [_or_never(each["gpu_seconds_to_5_percent"]["median"]) for each in (tpe, ours)]
        ratio = seconds[0] / seconds[1] if math.isfinite(seconds[1]) else 0.0
        found[f"{scenario}: GPU-seconds of TPE over {mine}"] = _target("≥ 3", ratio, lambda x: x >= 3)
    return found


def _never_worse(name: str, ours: Mapping[str, Any], rival: Mapping[str, Any]) -> dict[str, Any]:
    """Count the budgets by their medians as they are, and beside it, given enough seeds, those that chance does not
    explain.
    """
    medians = ours["median_gap_after"], rival["median_gap_after"]
    worse = [k for k in medians[0] if _or_never(medians[0][k]) > _or_never(medians[1][k]) + 1e-9]
    found = {f"{name}, by medians": _target("0", len(worse), lambda x: x == 0) | {"budgets": worse}}
    if ours["runs"] < FEWEST:
        return found
    tests = {k: _paired_after(ours, rival, k) for k in ours["gaps_after"]}
    sure = [k for k, test in tests.items() if test.is_worse]
    shown = {k: [test.worse, test.better, round(test.p_value, 4)] for k, test in tests.items()}
    extra = {"budgets": sure, "worse_better_p": shown}
    return found | {
        f"{name}, by a sign test over seeds ({LEVEL:.0%})": _target("0", len(sure), lambda x: x == 0) | extra
    }


def _paired_after(ours: Mapping[str, Any], rival: Mapping[str, Any], budget: str) -> Paired:
    gaps = ([_or_never(gap) for gap in each["gaps_after"][budget]] for each in (ours, rival))
    return paired(*gaps)


def _or_never(value: float | None) -> float:
    return math.inf if value is None else value


def _target(asked: str, value: float, met: Callable[[float], bool]) -> dict[str, Any]:
    return {"target": asked, "value": _number(value), "met": bool(met(value))}


def _quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed; infinities are values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _number(value: float) -> float | None:
    """None stands for 'never' in the JSON."""
    return round(value, 4) if math.isfinite(value) else None
