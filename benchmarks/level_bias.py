"""How far off a capacity is that was found with levels of a given length, from too few requests and a cold start.

    python -m benchmarks.level_bias [--seeds 40] [--json OUT]

On the twin, without noise: per engine the capacity that whole levels find under many seeds of arrivals, with 60 s after
2 s of warm-up at every rate (as levels once were) and with those of `controlplane.domain.studies.pace`, against the
capacity that three half hours of other arrivals sustain. `above` is the share of runs whose capacity, less 15 % of
headroom, is more than the engine truly sustains.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.domain.studies.pace import Pace, pace
from controlplane.domain.studies.tuning_options import LevelOptions
from controlplane.domain.workload import TraceWorkload
from controlplane.services.studies.trial_plan import requests_of
from tuner.twin.predict import highest_rate, latencies_s
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import simulate

_WORKLOAD = TraceWorkload(trace="azure-llm-2023/conv")
_LONG = Pace(30.0, 1800.0, 0)
_LONG_SEEDS, _FIRST_SEED = (900, 901, 902), 7919
_HEADROOM = 0.15
PaceOf = Callable[[float], Pace]


class Case(NamedTuple):
    """One engine and its limits."""

    name: str
    setup: EngineSetup
    slos: SloSet


def main(seeds: int, out: Path | None) -> None:
    """Print a line per engine and kind of level; write all as JSON when asked to."""
    rows = [row for case in cases() for row in _rows(case, seeds)]
    for row in rows:
        print(
            f"{row['engine']:26} {row['levels']:22} {row['requests']:5} requests, {row['seconds']:4} s: "
            f"bias {row['bias_percent']:+5.1f} %, sd {row['sd_percent']:4.1f} %, above {row['above']:.0%}"
        )
    if out is not None:
        out.write_text(json.dumps({"seeds": seeds, "rows": rows}, indent=1) + "\n")


def cases() -> Iterator[Case]:
    """Yield a 70B on H200s under P99 and P95 limits: three engines of which one is slow, and an 8B."""
    engines: dict[str, tuple[str, dict[str, FlagValue]]] = {
        "70b bf16 tp2": ("llama-70b", {"tensor-parallel-size": 2}),
        "70b fp8 tp1": ("llama-70b", {"quantization": "fp8", "max-num-seqs": 48}),
        "8b": ("llama-8b", {}),
    }
    for percentile in (95.0, 99.0):
        for name, (shape, flags) in engines.items():
            config = EngineConfig(flags={"max-model-len": 8192, **flags})
            yield Case(f"{name}, P{percentile:g}", resolve(load_shape(shape), "H200", config), _limits(percentile))


def _limits(percentile: float) -> SloSet:
    ttft = LatencySlo(metric=LatencyMetric.TTFT, percentile=percentile, limit_ms=1000)
    tpot = LatencySlo(metric=LatencyMetric.TPOT, percentile=percentile, limit_ms=80)
    return SloSet(latency=(ttft, tpot), target_qps=5)


def _rows(case: Case, seeds: int) -> Iterator[dict[str, Any]]:
    long_run = [_capacity(case, lambda _: _LONG, seed, 2.0) for seed in _LONG_SEEDS]
    truth = math.exp(float(np.mean(np.log(long_run))))
    stays_s = _residence_s(case, truth / 2)
    options = LevelOptions()
    kinds: dict[str, PaceOf] = {
        "60 s at every rate": lambda _: Pace(2.0, 60.0, 0),
        "of the search": lambda rate: pace(case.slos, options, rate, residence_s=stays_s),
        "of a decision": lambda rate: pace(case.slos, options, rate, residence_s=stays_s, deciding=True),
    }
    for kind, pace_of in kinds.items():
        found = np.array([_capacity(case, pace_of, _FIRST_SEED + each, truth) for each in range(seeds)])
        off = np.log(found / truth)
        yield {
            "engine": case.name,
            "levels": kind,
            "long_run_rps": round(truth, 3),
            "seconds": round(pace_of(truth).whole_s),
            "requests": round(pace_of(truth).duration_s * truth),
            "bias_percent": round(100 * float(off.mean()), 1),
            "sd_percent": round(100 * float(off.std()), 1),
            "above": round(float(np.mean(found * (1 - _HEADROOM) > truth)), 3),
        }


def _capacity(case: Case, pace_of: PaceOf, seed: int, start_rps: float) -> float:
    """Return the highest rate whose whole level passes."""

    def passes(rate: float) -> bool:
        plan = pace_of(rate)
        requests = requests_of(_WORKLOAD, rate_rps=rate, duration_s=plan.whole_s, seed=seed)
        result, counted = simulate(case.setup, requests), requests.scheduled_s >= plan.warmup_s
        found = latencies_s(result)
        missed = [(slo, found[slo.metric][counted] * 1e3 > slo.limit_ms) for slo in case.slos.latency]
        return all(each.sum() <= slo.allowed_miss_ratio * len(each) + 1e-9 for slo, each in missed)

    return highest_rate(passes, start_rps=start_rps, highest_rps=300, precision=0.01)


def _residence_s(case: Case, rate: float) -> float:
    result = simulate(case.setup, requests_of(_WORKLOAD, rate_rps=rate, duration_s=120.0, seed=1))
    return float(np.percentile(result.e2e_s, 90))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    main(given.seeds, given.json)
