"""A spot replica is taken back under streaming traffic: what users see, and how soon another serves.

    python -m benchmarks.spot [--rounds 3] [--notice-s 30] [--startup-s 8] [--rate 4] [--json PATH]

A whole installation on emulated engines: one replica on demand, one on a spot GPU, streams through the gateway. Each
round gives notice of the GPU that the spot replica holds as a file, waits until it is gone and another is ready, and
takes the notice back. At the end every request is counted by the load generator.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.figures import asked_as, rounds_parser, tell
from tests.e2e.loop.installation import SERVICE, Installation

SPOT = (2, 3)


class Round(NamedTuple):
    """Seconds from the notice on."""

    unrouted_s: float  # until the engine drains, or is gone
    gone_s: float
    replaced_s: float
    on_demand_least: int  # ready replicas on demand, the fewest seen


def service(startup_s: float) -> dict[str, Any]:
    engine = SERVICE["engine"] | {"emulator": {"startup_s": startup_s, "time_lapse": 1, "max_lag_ms": 1000}}
    flags = engine["flags"] | {"max-num-seqs": 16}
    return SERVICE | {
        "engine": engine | {"flags": flags},
        "spot": {"on_demand_replicas": 1},
        "initial_replicas": 2,
        "workload": SERVICE["workload"] | {"output_tokens": {"mean": 150, "cv": 0.3}},
    }


def one(installation: Installation, *, notice_s: float) -> Round:
    """Take the spot replica's GPU back and watch."""
    (taken,) = [each for each in ready(installation) if each["spec"]["spot"]]
    name, gpu = taken["spec"]["engine_id"], taken["gpu_indices"][0]
    folder = installation.data_dir / "reclaims"
    folder.mkdir(exist_ok=True)
    notice, began = folder / f"gpu-{gpu}", time.monotonic()
    notice.write_text((datetime.now(UTC) + timedelta(seconds=notice_s)).isoformat())
    seen: dict[str, float] = {}
    firm: list[int] = []

    def over() -> bool:
        there, now_s = installation.engines(), time.monotonic() - began
        states = {each["spec"]["engine_id"]: each["state"] for each in there}
        serving = [each for each in there if each["state"] == "ready"]
        firm.append(sum(not each["spec"]["spot"] for each in serving))
        if states.get(name) != "ready":
            seen.setdefault("unrouted", now_s)
        if states.get(name) in (None, "stopped", "failed"):
            seen.setdefault("gone", now_s)
        if len([each for each in serving if each["spec"]["engine_id"] != name]) >= 2:
            seen.setdefault("replaced", now_s)
        return len(seen) == 3

    installation.until("the replica is gone and replaced", over, within_s=300)
    notice.unlink()
    return Round(seen["unrouted"], seen["gone"], seen["replaced"], min(firm))


def ready(installation: Installation) -> list[dict[str, Any]]:
    return [each for each in installation.engines() if each["state"] == "ready"]


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    options = [word for gpu in SPOT for word in ("--spot-gpu", str(gpu))]
    installation = Installation(folder, service(args.startup_s), workers=0, options=options)
    try:
        installation.up()
        traffic = installation.traffic(args.rate)
        traffic.start()
        rounds = []
        for _ in range(args.rounds):
            installation.until("two replicas serve", lambda: len(ready(installation)) == 2, within_s=300)
            time.sleep(args.between_s)
            rounds.append(one(installation, notice_s=args.notice_s))
        report = traffic.stop()
    finally:
        installation.down()
    return {
        "requests": report.requests,
        "failed": report.errors,
        "truncated": report.truncated,
        "unfinished": report.unfinished,
        "rounds": [each._asdict() for each in rounds],
    }


def main() -> None:
    parser = rounds_parser(__doc__, rounds=3, startup_s=8.0)
    parser.add_argument("--notice-s", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=4.0)
    parser.add_argument("--between-s", type=float, default=5.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder))
    tell(asked_as("spot") | {"load_average": psutil.getloadavg()} | found, args.json)


if __name__ == "__main__":
    main()
