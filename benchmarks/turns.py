"""Time to the first token of models that take turns on one GPU: of one that is awake, and of one that sleeps.

    python -m benchmarks.turns [--rounds 3] [--json PATH]

A whole installation on emulated engines of a 70B model in fp8, once with two services and once with three; they are
asked in turn, each request once the one before is answered and the least time awake is over. Falling asleep and waking
take an emulated engine its weights at 20 GiB/s each, which is assumed, and never measured here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.from_zero import first_token_s
from tests.e2e.loop.installation import SERVICE, Installation

MIN_AWAKE_S = 2.0


def service(name: str) -> dict[str, Any]:
    engine = SERVICE["engine"] | {
        "flags": SERVICE["engine"]["flags"] | {"enable-sleep-mode": True},
        "env": {"VLLM_SERVER_DEV_MODE": "1"},
        "emulator": {"startup_s": 3, "time_lapse": 1, "max_lag_ms": 1000},
    }
    shares = {"pool": "small", "min_awake_s": MIN_AWAKE_S, "hold_s": 120}
    model = SERVICE["model"] | {"name": f"{name}-model"}
    return SERVICE | {
        "name": name,
        "model": model,
        "engine": engine,
        "gpus": SERVICE["gpus"] | {"count": 1},
        "shares": shares,
    }


def measure(folder: Path, names: list[str], rounds: int) -> dict[str, list[float]]:
    """Return the first tokens of each kind of request."""
    installation = Installation(folder, service(names[0]), workers=0)
    try:
        installation.up()
        for name in names[1:]:
            installation.api.post("/services", service(name))
        installation.until("all of them were started", lambda: installation.ready_engines() == len(names), 300)
        took: dict[str, list[float]] = {"asleep": [], "awake": []}
        for number in range(rounds * len(names)):
            model = f"{names[number % len(names)]}-model"
            time.sleep(MIN_AWAKE_S + 2)
            kinds = ("asleep", "awake") if number else ("", "awake")  # who is awake first is nobody's business
            for kind in kinds:
                took.setdefault(kind, []).append(first_token_s(installation.gateway_url, model))
        return {kind: found for kind, found in took.items() if kind}
    finally:
        installation.down()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = {}
    for names in (["chat", "mail"], ["chat", "mail", "code"]):
        with tempfile.TemporaryDirectory() as folder:
            rows[f"{len(names)} models"] = measure(Path(folder), names, args.rounds)
    found = {
        "command": " ".join(["python -m benchmarks.turns", *sys.argv[1:]]),
        "at": time.strftime("%Y-%m-%d"),
        "load_average": psutil.getloadavg(),
        "first_token_s": {
            models: {
                kind: {"median": statistics.median(each), "shortest": min(each), "longest": max(each), "of": len(each)}
                for kind, each in took.items()
            }
            for models, took in rows.items()
        },
    }
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
