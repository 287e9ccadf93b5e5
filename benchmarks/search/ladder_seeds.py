"""The rate ladder alone over several seeds, pooled.

    python -m benchmarks.search.ladder_seeds --seeds 6000,6001 --json OUT

Each seed draws its own configurations of each scenario, arrivals, noise and errors of the twin.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.search.held_out import scenario_named
from benchmarks.search.ladder import compare_ladders
from benchmarks.search.scenarios import scenarios
from benchmarks.search.truth import ground_truth

_SHARES = (
    "within_5_percent",
    "unfitted_within_5_percent",
    "wrong_model_within_5_percent",
    "fixed_within_5_percent",
    "ceiling_within_5_percent",
    "interval_holds_truth",
    "unfitted_interval_holds_truth",
)
_MEANS = (
    "load_seconds_share_of_fixed",
    "unfitted_load_seconds_share_of_fixed",
    "wrong_model_load_seconds_share_of_fixed",
    "levels",
    "unfitted_levels",
)


def main() -> None:
    """Run the seeds, print the pooled figures and write everything to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", required=True, help="whole numbers with commas between them")
    parser.add_argument("--configs", type=int, default=40, help="configurations per scenario and seed")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "fleetune", help="ground truth")
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args()
    seeds = [int(each) for each in asked.seeds.split(",")]
    report = run(seeds, configs=asked.configs, cache=asked.cache)
    command = f"python -m benchmarks.search.ladder_seeds --seeds {asked.seeds} --configs {asked.configs} --json OUT"
    machine = f"{os.cpu_count()} cores, {platform.machine()}; simulated, so it does not matter"
    about = {"command": command, "date": datetime.date.today().isoformat(), "machine": machine}
    asked.json.write_text(json.dumps(about | report, indent=1) + "\n")
    print(json.dumps(report["pooled"], indent=1))


def run(seeds: Sequence[int], *, configs: int, cache: Path) -> dict[str, Any]:
    """Return the pooled figures: over everything, per scenario, per seed."""
    names = [scenario.name for scenario in scenarios()]
    tasks = [(name, seed) for seed in seeds for name in names]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_truth, cache=cache), names))
        rows = list(pool.map(partial(_one, configs=configs, cache=cache), tasks))
    return {
        "pooled": _pooled(rows),
        "scenarios": {name: _pooled([row for row in rows if row["name"] == name]) for name in names},
        "seeds": {str(seed): _pooled([row for row in rows if row["seed"] == seed]) for seed in seeds},
    }


def _truth(name: str, cache: Path) -> None:
    ground_truth(scenario_named(name), cache)


def _one(task: tuple[str, int], configs: int, cache: Path) -> dict[str, Any]:
    name, seed = task
    row = compare_ladders(ground_truth(scenario_named(name), cache), configs=configs, seed=seed)
    print(f"{name} {seed}: {row['within_5_percent']:.1%}, {row['load_seconds_share_of_fixed']:.1%}", flush=True)
    return row | {"seed": seed}


def _pooled(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pool rows of equally many runs."""
    runs = sum(row["runs"] for row in rows)
    pooled: dict[str, Any] = {"runs": runs}
    for name in _SHARES:
        count = sum(round(row[name] * row["runs"]) for row in rows)
        interval = stats.binomtest(count, runs).proportion_ci(method="wilson")
        pooled[name] = round(count / runs, 3)
        pooled[f"{name}_95_interval"] = [round(float(interval.low), 3), round(float(interval.high), 3)]
    return pooled | {name: round(sum(row[name] for row in rows) / len(rows), 3) for name in _MEANS}


if __name__ == "__main__":
    main()
