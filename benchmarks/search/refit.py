"""How well a twin fitted to one real level foretells the capacity that the whole ladder then found.

    python -m benchmarks.search.refit docs/results/h200-2026-11-25/study-*.json

Reads studies as the store exports them (`{"study": ..., "trials": [...]}`) and replays their trials' levels in order.
Per trial with a bracketed capacity: the error of the twin before any level, and after the first and second, against it.
No engine runs; the levels are those that were measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Trial, TrialKind
from controlplane.services.trial_plan import seed_of, workload_of
from controlplane.services.trial_twin import trial_twin

_LEVELS = 2  # after which the expectation is compared; the last level of a trial never counts


def main(paths: Sequence[str]) -> None:
    """Print a line per trial and the medians."""
    rows = [row for path in paths for row in errors(Path(path))]
    for name, found in rows:
        print(f"{name:28}" + "".join("       -" if each is None else f"{each:+8.1%}" for each in found))
    for after in range(_LEVELS + 1):
        known = [found for _, found in rows if found[after] is not None]
        sizes = [abs(found[after] or 0.0) for found in known]
        before = [abs(found[0] or 0.0) for found in known]
        print(
            f"after {after} levels: median error {np.median(sizes):.1%}, worst {max(sizes):.1%}, of {len(sizes)}; "
            f"the same trials before any level: {np.median(before):.1%}, worst {max(before):.1%}"
        )


def errors(path: Path) -> Iterator[tuple[str, list[float | None]]]:
    """Yield per trial its name and (expected / found - 1) before any level and after the first ones."""
    stored = json.loads(path.read_text())
    shape = Path(stored["study"]["spec"]["model"]["path"]).name  # the exported path is of the machine that ran it
    stored["study"]["spec"]["model"]["path"] = shape
    spec = ServiceSpec.model_validate(stored["study"]["spec"])
    trials = tuple(Trial.model_validate(each) for each in stored["trials"])
    for trial in trials:
        if trial.capacity is None or trial.capacity.censored or trial.kind is TrialKind.CONFIRM_FLEET:
            continue
        found = _errors(spec, trial, trials)
        if found is not None:
            yield f"{path.stem.removeprefix('study-')} {trial.number}", found


def _errors(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...]) -> list[float | None] | None:
    workload, seed = workload_of(spec, trial), seed_of(spec, trial, trials)
    first = trial.predicted.get("capacity_rps", trial.levels[0].rate_rps)
    twin = trial_twin(spec, trial.config, workload, seed=seed, start_rps=first)
    if twin is None or trial.capacity is None:
        return None
    seen = [twin.fitted.capacity_rps(), *(twin.see(level) for level in trial.levels[:-1][:_LEVELS])]
    seen += [None] * (_LEVELS + 1 - len(seen))
    return [None if rps is None else rps / trial.capacity.rps - 1 for rps in seen]


if __name__ == "__main__":
    main(sys.argv[1:])
