"""The demo under many seeds, each a whole run of `fleetune demo --seed N`: what it answered, and whether it went out.

    python -m benchmarks.demo_seeds --seeds 101-110 [--at-once 1] --folder DIR --json PATH

One takes some seven minutes and two cores; `--at-once` is for machines of more. Each run's own facts and output stay in
the folder. Exit code 1 when fewer than nine in ten end in an improvement that was promoted, or any run failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

APART_S = 20.0
"""Between two starts: a demo looks for free ports first, and takes them a moment later."""
ENOUGH = 0.9


def run(seed: int, folder: Path, *, wait_s: float) -> dict[str, Any]:
    """Return what one demo told, in short."""
    time.sleep(wait_s)
    told, data, began = folder / f"seed-{seed}.json", folder / f"data-{seed}", time.monotonic()
    command = [sys.executable, "-m", "controlplane.cli.main", "demo", "--seed", str(seed)]
    with (folder / f"seed-{seed}.log").open("w") as log:
        ended = subprocess.run([*command, "--json", told, "--data-dir", data], stdout=log, stderr=log, check=False)
    minutes = (time.monotonic() - began) / 60
    shutil.rmtree(data, ignore_errors=True)
    facts = json.loads(told.read_text()) if told.exists() else None
    return {"seed": seed, "exit_code": ended.returncode, "minutes": round(minutes, 1)} | _short(facts)


def _short(facts: dict[str, Any] | None) -> dict[str, Any]:
    if facts is None:
        return {"answer": None}
    rollout = facts["rollout"] or {}
    return {
        "answer": facts["answer"],
        "summary": facts["summary"],
        "usd_per_hour": [facts[side]["usd_per_hour"] for side in ("baseline", "winner")],
        "cost_ratio": facts["cost_ratio"],
        "engine_starts": facts["engine_starts"],
        "rollout": rollout.get("state"),
        "requests": facts["requests"],
    }


def is_good(demo: dict[str, Any]) -> bool:
    return (demo["exit_code"], demo["answer"], demo.get("rollout")) == (0, "improvement", "promoted")


def main() -> int:
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    with ThreadPoolExecutor(options.at_once) as pool:
        waits = [APART_S * (place if place < options.at_once else 0) for place in range(len(seeds))]
        demos = list(pool.map(lambda seed, wait_s: run(seed, options.folder, wait_s=wait_s), seeds, waits))
    good = sum(map(is_good, demos))
    command = " ".join(["python -m benchmarks.demo_seeds", *sys.argv[1:]])
    found = {"command": command, "at": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "good": good, "demos": demos}
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    for demo in demos:
        print(json.dumps(demo))
    print(f"{good} of {len(demos)} ended in an improvement that was promoted")
    return 0 if good >= ENOUGH * len(demos) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", required=True, help="FIRST-LAST, or one.")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
