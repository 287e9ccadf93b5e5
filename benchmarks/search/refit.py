"""How well a twin fitted to one real level foretells the capacity that the whole ladder then found.

    python -m benchmarks.search.refit docs/results/h200-2026-11-25/study-*.json

Reads studies as the store exports them (`{"study": ..., "trials": [...]}`) and replays their trials' levels in order.
Per trial with a bracketed capacity: the twin's error against it before any level, after the first and after the second.
No engine runs; the levels are those that were measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.services.studies.trial_plan import seed_of, workload_of
from controlplane.services.studies.trial_twin import trial_twin

_LEVELS = 2  # after which the expectation is compared; the last level of a trial never counts


class Replayed(NamedTuple):
    """One trial: the capacity it ended with, and what its twin expected before any level and after the first ones."""

    name: str
    found: Capacity
    expected_rps: Sequence[float]


def main(paths: Sequence[str]) -> None:
    """Print a line per trial and the medians."""
    trials = [each for path in paths for each in replayed(Path(path))]
    for each in trials:
        errors = "".join(f"{rps / each.found.rps - 1:+8.1%}" for rps in each.expected_rps)
        low, high = each.found.low_rps / each.found.rps - 1, each.found.high_rps / each.found.rps - 1
        print(f"{each.name:24} found {each.found.rps:5.1f} ({low:+.0%}, {high:+.0%}), expected {errors}")
    for after in range(_LEVELS + 1):
        known = [each for each in trials if len(each.expected_rps) > after]
        print(f"after {after} levels: {_sentence(known, after)}; the same before any: {_sentence(known, 0)}")


def _sentence(trials: Sequence[Replayed], after: int) -> str:
    sizes = [abs(each.expected_rps[after] / each.found.rps - 1) for each in trials]
    inside = sum(each.found.low_rps <= each.expected_rps[after] <= each.found.high_rps for each in trials)
    return f"median error {np.median(sizes):.1%}, {inside} of {len(trials)} in the interval found"


def replayed(path: Path) -> Iterator[Replayed]:
    """Yield a study's trials with a bracketed capacity and a twin."""
    stored = json.loads(path.read_text())
    shape = Path(stored["study"]["spec"]["model"]["path"]).name  # the exported path is of the machine that ran it
    stored["study"]["spec"]["model"]["path"] = shape
    spec = ServiceSpec.model_validate(stored["study"]["spec"])
    trials = tuple(Trial.model_validate(each) for each in stored["trials"])
    for trial in trials:
        if trial.capacity is None or trial.capacity.censored or trial.kind is TrialKind.CONFIRM_FLEET:
            continue
        expected = _expected(spec, trial, trials)
        if expected:
            yield Replayed(f"{path.stem.removeprefix('study-')} {trial.number}", trial.capacity, expected)


def _expected(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...]) -> list[float]:
    workload, seed = workload_of(spec, trial), seed_of(spec, trial, trials)
    first = trial.predicted.get("capacity_rps", trial.levels[0].rate_rps)
    twin = trial_twin(spec, trial.config, workload, seed=seed, start_rps=first, kind=trial.kind)
    if twin is None:
        return []
    told = [twin.fitted.capacity_rps(), *(twin.see(level) for level in trial.levels[:-1][:_LEVELS])]
    return [rps for rps in told if rps is not None]


if __name__ == "__main__":
    main(sys.argv[1:])
