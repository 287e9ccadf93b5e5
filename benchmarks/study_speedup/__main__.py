"""`python -m benchmarks.study_speedup [--gpus 1,2,4,8 --seeds 3 --json FILE]`: how long a study of twelve starts takes.

Everything is the product's but time: its policy, search, ladder and answer, with a worker for each free GPU. `twin` is
our search, which ends when nothing seems worth a start; `tpe` is Optuna's, which uses up its starts. What a study
answers is held against the cheapest fleet there truly is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from benchmarks.answers.remembered import remember_simulations
from benchmarks.answers.study import Ended
from benchmarks.answers.truth import Truth
from benchmarks.study_speedup.study import STARTS, run, service
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.domain.studies.tuning_options import Strategy

_CONFIRMS = (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)


class Job(NamedTuple):
    strategy: Strategy
    gpus: int
    seed: int
    truths: Path  # a folder that keeps what was found to be true


class Took(NamedTuple):
    """One study: seconds of virtual time, GPU seconds of its trials, and what its answer costs over the cheapest."""

    wall_s: float
    confirm_s: float  # from the first confirmation on
    starts: int
    gpu_s: float
    regret_percent: float


def took(job: Job) -> Took:
    """Return what one study took."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    played = service()
    ended = run(played, gpus=job.gpus, seed=job.seed, strategy=job.strategy)
    return _measured(ended, Truth(played, job.truths))


def _measured(ended: Ended, truth: Truth) -> Took:
    study, found = ended.study, ended.study.recommendation
    begun, over = study.started_at, study.finished_at
    assert begun is not None, study
    assert over is not None, study
    assert found is not None, study
    best, answered = truth.best(), truth.fleet(found.config)
    assert best is not None
    assert answered is not None
    confirmed = min((t.started_at for t in ended.trials if t.kind in _CONFIRMS), default=over)
    return Took(
        wall_s=(over - begun).total_seconds(),
        confirm_s=(over - confirmed).total_seconds(),
        starts=study.engine_starts + study.wasted_starts,
        gpu_s=sum(_ran_s(trial) for trial in ended.trials),
        regret_percent=100 * (answered.size.usd_per_hour / best.size.usd_per_hour - 1),
    )


def _ran_s(trial: Trial) -> float:
    return 0.0 if trial.finished_at is None else (trial.finished_at - trial.started_at).total_seconds()


def report(jobs: Sequence[Job], found: Sequence[Took]) -> list[dict[str, Any]]:
    """Return a row per strategy and number of GPUs: medians over the seeds."""
    rows: list[dict[str, Any]] = []
    for strategy in dict.fromkeys(job.strategy for job in jobs):
        alone: dict[int, float] = {}
        for gpus in dict.fromkeys(job.gpus for job in jobs):
            mine = {j.seed: t for j, t in zip(jobs, found, strict=True) if (j.strategy, j.gpus) == (strategy, gpus)}
            alone = alone or {seed: each.wall_s for seed, each in mine.items()}
            rows.append(_row(strategy, gpus, mine, alone))
    return rows


def _row(strategy: Strategy, gpus: int, mine: dict[int, Took], alone: dict[int, float]) -> dict[str, Any]:
    def middle(values: Sequence[float], digits: int = 1) -> float:
        return round(statistics.median(values), digits)

    each = list(mine.values())
    return {
        "strategy": strategy.value,
        "gpus": gpus,
        "minutes": middle([t.wall_s / 60 for t in each]),
        "times_as_fast": middle([alone[seed] / t.wall_s for seed, t in mine.items()], 2),
        "confirm_minutes": middle([t.confirm_s / 60 for t in each]),
        "starts": middle([t.starts for t in each]),
        "minutes_per_start": middle([t.wall_s / 60 / t.starts for t in each], 2),
        "gpu_minutes": middle([t.gpu_s / 60 for t in each]),
        "busy_percent": middle([100 * t.gpu_s / t.wall_s / gpus for t in each]),
        "regret_percent": middle([t.regret_percent for t in each]),
        "worst_regret_percent": round(max(t.regret_percent for t in each), 1),
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", default="1,2,4,8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(words)
    gpus = [int(each) for each in given.gpus.split(",")]
    with tempfile.TemporaryDirectory() as kept:
        pairs = [(strategy, each) for strategy in (Strategy.TWIN, Strategy.TPE) for each in gpus]
        jobs = [Job(*pair, seed, Path(kept)) for pair in pairs for seed in range(given.seeds)]
        with ProcessPoolExecutor(given.processes, initializer=remember_simulations) as pool:
            found = list(pool.map(took, jobs))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    told = json.dumps(
        {"budget": STARTS, "seeds": given.seeds, "machine": machine, "rows": report(jobs, found)}, indent=1
    )
    print(told)
    if given.json is not None:
        given.json.write_text(told + "\n")


if __name__ == "__main__":
    main()
