"""The whole benchmark as `fleetune bench answers` runs it: the truth, the studies, the report."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.answers.drawn import drawn, drawn_by_name
from benchmarks.answers.held_out import held_out
from benchmarks.answers.intervals import coverage, stated
from benchmarks.answers.kept import Job, Kept
from benchmarks.answers.remembered import remember_simulations
from benchmarks.answers.scenarios import Scenario, chosen, scenarios
from benchmarks.answers.score import Score, Verdict, probabilities, regret_percent, row, score
from benchmarks.answers.study import run_study
from benchmarks.answers.truth import Truth


def run(
    *,
    seeds: Sequence[int],
    budgets: Sequence[int],
    played: Sequence[Scenario],
    processes: int,
    cache: Path,
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], None],
    studies: Path | None = None,
) -> dict[str, Any]:
    """Return the report of these scenarios; `core_s` of it are the processor seconds of this run.

    `keep` gets what the report would be after every few studies: a run of hours that is cut leaves what it has. Those
    kept in `studies` by the same code are not run again.
    """
    begun = time.time()
    jobs = [Job(each.name, budget, seed) for seed in seeds for each in played for budget in budgets]
    kept = Kept(studies)
    scores = kept.scores(jobs)
    missing = _alike([job for job in jobs if job not in scores])
    with ProcessPoolExecutor(processes, initializer=remember_simulations) as pool:
        list(pool.map(_found, [each.name for each in played], [cache] * len(played)))
        say(f"the truth of {len(played)} scenarios is there after {time.time() - begun:.0f} s, {len(scores)} studies")
        truths = {each.name: Truth(each, cache) for each in played}
        for ended in as_completed([pool.submit(_played, alike, cache) for alike in missing]):
            kept.add(found := ended.result())
            scores |= found
            keep(_report(scores, truths, begun))
            if len(scores) * 20 // len(jobs) > (len(scores) - len(found)) * 20 // len(jobs):
                say(f"{len(scores)} of {len(jobs)} studies after {time.time() - begun:.0f} s")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the pool, now that it ended
    return _report(scores, truths, begun) | {"core_s": round(used.ru_utime + used.ru_stime)}


def _alike(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Return the studies in groups of one scenario and seed: they begin alike, so most simulations come again."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.scenario, job.seed), []).append(job)
    return [tuple(group) for group in groups.values()]


def asked(names: Sequence[str], *, aside: bool, drawn_count: int, draw: int) -> list[Scenario]:
    """Return the scenarios to play: those held aside, those of a draw, or else those that rules may be made by.

    Raises InvalidInput for an unknown name.
    """
    return chosen(names, drawn(drawn_count, draw) if drawn_count else held_out() if aside else scenarios())


def _report(scores: Mapping[Job, Score], truths: Mapping[str, Truth], begun: float) -> dict[str, Any]:
    """Return the report of the studies that were run, and where. `seeds` are those of any of them."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    run = {"studies": len(scores), "seeds": sorted({job.seed for job in scores}), "machine": machine}
    return report_of(scores, truths) | run | {"took_s": round(time.time() - begun)}


def report_of(scores: Mapping[Job, Score], truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Return a row per scenario and budget, and what the targets say of all of them together."""
    pairs = sorted(
        {(job.scenario, job.budget) for job in scores}, key=lambda pair: (list(truths).index(pair[0]), pair[1])
    )
    of = {pair: [found for job, found in scores.items() if job[:2] == pair] for pair in pairs}
    rows = [
        row(name, budget, truths[name], found) | {"intervals": coverage(told for each in found for told in each.stated)}
        for (name, budget), found in of.items()
    ]
    told = [each for found in scores.values() for each in found.stated]
    fleets = probabilities(scores.values())
    return {"scenarios": rows, "summary": targets(scores), "intervals": coverage(told), "probabilities": fleets}


def targets(scores: Mapping[Job, Score]) -> dict[str, Any]:
    """Return each target with what was reached: None where that is infinite, or where nothing was run that tells."""
    every = list(scores.values())
    at = {budget: [s for job, s in scores.items() if job.budget == budget] for budget in (8, 12)}
    regret, fleets = regret_percent(every), [s for s in every if s.recommended]
    return {
        "missed_wins_percent_at_12_starts": _target(2, _share([s.missed_win for s in at[12]])),
        "missed_wins_percent_at_8_starts": _target(10, _share([s.missed_win for s in at[8]])),
        "false_wins_percent": _target(2, _share([s.false_win for s in every])),
        "slo_missed_percent_of_recommended": _target(5, _share([s.slo_missed for s in fleets])),
        "median_regret_percent": _target(5, regret["median"]),
        "p90_regret_percent": _target(20, regret["p90"]),
    }


def summary(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report as lines for a terminal."""
    yield (
        f"{'scenario':34}{'starts':>7}{'best':>7}{'base':>8}"
        " impr unch none  out fail missed false  slo regret    p90  GPU-s"
    )
    for each in report["scenarios"]:
        answers, regret = each["answers"], each["regret_percent"]
        counts = " ".join(f"{answers[verdict.value]:4}" for verdict in Verdict)
        yield (
            f"{each['name']:34}{each['budget']:7}{_shown(each['true_best_usd_per_hour']):>7}"
            f"{_shown(each['baseline_usd_per_hour']):>8} {counts} {each['missed_wins']:6} {each['false_wins']:5}"
            f" {each['slo_missed_at_target']:4} {_shown(regret['median']):>6} {_shown(regret['p90']):>6}"
            f" {each['gpu_seconds']['median']:6}"
        )
    for name, target in report["summary"].items():
        unasked = target["value"] is None and name.startswith("missed_wins")
        met = "met   " if target["met"] else "no run" if unasked else "MISSED"
        yield f"{met} {name}: {_shown(target['value'])} (target ≤ {target['at_most']})"
    for what, held in report["intervals"].items():
        yield f"95 % intervals of {what} hold {held['held_percent']:g} % of {held['stated']}"
    for how, told in report["probabilities"].items():
        held_of = f"{told['held_percent']:g} % of {told['stated']} do"
        yield f"fleets {how} to hold: with {told['stated_percent']:g} % as stated, {held_of}"


def _found(name: str, cache: Path) -> None:
    truth = Truth(_scenario(name), cache)
    truth.best()
    truth.baseline()


def _played(alike: Sequence[Job], cache: Path) -> dict[Job, Score]:
    """Run the studies of one scenario and seed."""
    found = _scenario(alike[0].scenario)
    truth = Truth(found, cache)
    ended = {job: run_study(found, budget=job.budget, seed=job.seed).study for job in alike}
    return {job: score(truth, study)._replace(stated=stated(truth, study)) for job, study in ended.items()}


def _scenario(name: str) -> Scenario:
    return drawn_by_name(name) or next(each for each in (*scenarios(), *held_out()) if each.name == name)


def _share(hits: Sequence[bool]) -> float | None:
    return round(100 * sum(hits) / len(hits), 1) if hits else None


def _target(at_most: float, value: float | None) -> dict[str, Any]:
    return {"at_most": at_most, "value": value, "met": value is not None and value <= at_most}


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
