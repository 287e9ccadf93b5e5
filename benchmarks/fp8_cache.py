"""How far off the twin's speed is for engines with an fp8 KV cache, which no shipped profile was fitted with.

    python examples/h200/make_model.py qwen2.5-7b models/qwen2.5-7b
    python -m benchmarks.fp8_cache docs/results/h200-*/study-*.json

Reads studies as the store exports them (`{"study": ..., "trials": [...]}`): their levels were measured on real engines.
Per level and latency limit: the log factor on the twin's clock that gives the percentile measured. Of the levels with
an fp8 cache, study by study: the share of percentiles that the 90 % intervals hold without any step for the other
cache, with the step that the *other* studies ask for (the least at which nine in ten of their percentiles are held),
and as shipped. Beside it the levels with a 16-bit cache. No engine runs.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.services.studies.calibrate_here import stand_of
from controlplane.services.studies.trial_plan import seed_of, workload_of
from controlplane.services.studies.trial_twin import trial_twin
from tuner.twin.setup import EngineSetup
from tuner.twin.uncertainty import cache_step

_Z90 = 1.645
_BESIDE = {LatencyMetric.TTFT: 0.07}  # what the interval of a first token has beside the engine's speed (spread.py)
_STEPS = np.arange(0.0, 0.2, 0.005)
_HELD = 0.9


class Miss(NamedTuple):
    """One percentile of one level: by how much the engine was slower than the twin (logarithm), the 1-sigma error that
    the interval has without a step for the cache, and how many steps its token budget counts as (0: a 16-bit cache).
    """

    log_slower: float
    without: float
    steps: float

    def held(self, step: float) -> bool:
        """Say whether the 90 % interval holds it with a step of that size."""
        return abs(self.log_slower) <= _Z90 * math.hypot(self.without, step * self.steps)


def main(paths: Sequence[str]) -> None:
    """Print a line per study and kind of cache."""
    found = {Path(path): list(_misses(Path(path))) for path in paths}
    shipped = cache_step(8, 16, 8192)
    for path, misses in found.items():
        plain = [miss for miss in misses if not miss.steps]
        print(f"{_name(path):36} 16-bit cache: {_sentence(plain, 0.0)}")
    fp8 = {path: own for path, misses in found.items() if (own := [miss for miss in misses if miss.steps])}
    for path, misses in fp8.items():
        asked = _asked([miss for other, each in fp8.items() if other != path for miss in each])
        said = (
            f"with the others' step of {asked:.3f} {_held(misses, asked):.0%}, as shipped {_held(misses, shipped):.0%}"
        )
        print(f"{_name(path):36} fp8 cache:    {_sentence(misses, 0.0)}, {said}")
    together = [miss for misses in fp8.values() for miss in misses]
    all_ask = f"all with an fp8 cache ask for a step of {_asked(together):.3f}"
    print(f"{all_ask}; shipped: {shipped:.3f}, {_sentence(together, shipped)}")


def _asked(misses: Sequence[Miss]) -> float:
    """Return the least step at which the intervals hold nine in ten percentiles."""
    return float(next((step for step in _STEPS if _held(misses, float(step)) >= _HELD), _STEPS[-1]))


def _held(misses: Sequence[Miss], step: float) -> float:
    return float(np.mean([miss.held(step) for miss in misses]))


def _sentence(misses: Sequence[Miss], step: float) -> str:
    slower = [miss.log_slower for miss in misses]
    return (
        f"{len(misses)} percentiles, slower by {np.median(slower):+.0%} in the median, {_held(misses, step):.0%} held"
    )


def _misses(path: Path) -> Iterator[Miss]:
    stored = json.loads(path.read_text())
    model = stored["study"]["spec"]["model"]
    model["path"] = next((f for f in (f"models/{model['name']}",) if Path(f).is_dir()), model["name"])
    spec = ServiceSpec.model_validate(stored["study"]["spec"])
    trials = tuple(Trial.model_validate(each) for each in stored["trials"])
    stand = stand_of(spec, None)
    if stand is None:
        raise SystemExit(f"{path}: no twin of {model['name']}; make its folder models/{model['name']} first")
    for trial in trials:
        if trial.kind is not TrialKind.CONFIRM_FLEET:
            yield from _of_trial(spec, trial, trials, stand.setup(trial.config))


def _of_trial(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...], setup: EngineSetup) -> Iterator[Miss]:
    """Every level by a fresh twin, so that none is explained by another."""
    workload, seed = workload_of(spec, trial), seed_of(spec, trial, trials)
    tokens, shipped = setup.max_num_batched_tokens, setup.profile.kv_bits
    steps = cache_step(setup.kv_bits, shipped, tokens) / cache_step(8, 16, 8192)
    plain = setup.evolve(kv_bits=shipped)
    for level in trial.levels:
        twin = trial_twin(spec, trial.config, workload, seed=seed, start_rps=level.rate_rps, kind=trial.kind)
        if twin is None:
            continue
        twin.see(level)
        for check in level.report.slo_checks:
            slower = twin.fitted.log_slower(check.slo, level.rate_rps)
            if slower:  # 0: too few requests to tell
                yield Miss(slower, math.hypot(plain.uncertainty, _BESIDE.get(check.slo.metric, 0.0)), steps)


def _name(path: Path) -> str:
    return f"{path.parent.name.removeprefix('h200-')} {path.stem.removeprefix('study-')}"


if __name__ == "__main__":
    main(sys.argv[1:])
