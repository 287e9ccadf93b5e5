"""The whole comparison as `fleetune bench search` runs it: searches, rate ladders, summary."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.search.compare import compare
from benchmarks.search.held_out import all_scenarios, scenario_named
from benchmarks.search.ladder import compare_ladders
from benchmarks.search.scenarios import scenarios
from benchmarks.search.truth import ground_truth
from controlplane.domain.errors import InvalidInput
from tuner.search.search import gp_available

_NEEDS_TORCH = "Optuna's GPSampler needs torch, which is not installed (pip install '.[bench]')"


def run(
    *,
    seeds: Sequence[int],
    cache: Path,
    workers: int,
    chosen: Sequence[str],
    ladders: int,
    ladder_seed: int,
    say: Callable[[str], None],
    playing: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the report. Raises InvalidInput for an unknown scenario."""
    known = [scenario.name for scenario in all_scenarios()]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InvalidInput(f"no scenario {', '.join(unknown)}", allowed=", ".join(known))
    begun = time.time()
    report = compare(seeds, cache=cache, workers=workers, chosen=chosen, say=say, playing=playing)
    if ladders:
        names = list(chosen) or [scenario.name for scenario in scenarios()]
        with ProcessPoolExecutor(workers) as pool:
            climb = partial(_ladders, cache=cache, count=ladders, seed=ladder_seed)
            report["ladders"] = list(pool.map(climb, names))
        report["targets"] |= _ladder_targets(report["ladders"])
        report["ladder_seed"] = ladder_seed
    report["skipped"] = {} if gp_available() else {"optuna_gp": _NEEDS_TORCH}
    report["took_s"] = round(time.time() - begun)
    report["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return report


def summary(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report as lines for a terminal."""
    for scenario in report["scenarios"]:
        yield f"\n{scenario['name']}: {scenario['configurations']} configurations"
        head = f"{'starts to 5 %':>14} {'p90':>6} {'GPU-s':>9} {'reached':>9} {'OOM':>5} {'keeps SLOs':>10}"
        yield f"  {'contestant':20} {head}"
        for row in scenario["contestants"]:
            starts, seconds = row["starts_to_5_percent"], row["gpu_seconds_to_5_percent"]["median"]
            yield (
                f"  {row['name']:20} {_shown(starts['median']):>14} {_shown(starts['p90']):>6} {_shown(seconds):>9} "
                f"{row['reached']:>4}/{row['runs']:<4} {row['oom_starts']:>5} "
                f"{row['runs'] - row['slo_missed']:>5}/{row['runs']:<4}"
            )
    for name, why in report["skipped"].items():
        yield f"\nleft out: {name}: {why}"
    for ladder in report.get("ladders", ()):
        yield (
            f"\nladder {ladder['name']}: {ladder['within_5_percent']:.0%} within 5 % of the truth "
            f"(fixed bisection {ladder['fixed_within_5_percent']:.0%}) in "
            f"{ladder['load_seconds_share_of_fixed']:.0%} of its seconds"
        )
    yield ""
    for name, target in report["targets"].items():
        yield f"{'met   ' if target['met'] else 'MISSED'} {name}: {_shown(target['value'])} (target {target['target']})"


def _ladders(name: str, cache: Path, count: int, seed: int) -> dict[str, Any]:
    return compare_ladders(ground_truth(scenario_named(name), cache), configs=count, seed=seed)


def _ladder_targets(ladders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    runs = sum(ladder["runs"] for ladder in ladders)
    within = sum(ladder["within_5_percent"] * ladder["runs"] for ladder in ladders) / runs
    share = sum(ladder["load_seconds_share_of_fixed"] for ladder in ladders) / len(ladders)
    return {
        "ladder_within_5_percent": {"target": "≥ 0.95", "value": round(within, 3), "met": within >= 0.95},
        "ladder_load_seconds_share": {"target": "≤ 0.5", "value": round(share, 3), "met": share <= 0.5},
    }


def _shown(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"
