"""Time to the first token of a service without a replica: from an engine asleep, from one awake, and from nothing.

    python -m benchmarks.warm_pool [--rounds 3] [--startup-s 20] [--json PATH]

A whole installation on emulated engines for each of the three; each round scales to 0, waits until the pool is as
it is to be, sends one request and takes the time to its first token. What an emulated engine takes to wake is its
weights at 20 GiB/s a GPU, to start what is given.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import asked_as, rounds_parser, tell
from benchmarks.from_zero import first_token_s
from tests.e2e.loop.installation import SERVICE, Installation

POOLS: dict[str, dict[str, Any]] = {
    "asleep": {"warm_replicas": 1, "warm_asleep": True},
    "awake": {"warm_replicas": 1},
    "cold": {},
}


def service(startup_s: float, pool: dict[str, Any]) -> dict[str, Any]:
    """Return a service that scales to zero, with one kind of warm pool."""
    scale = {"enabled": True, "min_replicas": 0, "zero_after_s": 3600, "capacity_rps": 2}
    engine = SERVICE["engine"] | {
        "flags": SERVICE["engine"]["flags"] | {"enable-sleep-mode": True},
        "env": {"VLLM_SERVER_DEV_MODE": "1"},
        "emulator": {"startup_s": startup_s, "time_lapse": 1, "max_lag_ms": 1000},
    }
    gpus = SERVICE["gpus"] | {"count": 1}
    return SERVICE | {"engine": engine, "gpus": gpus, "autoscale": scale | pool, "initial_replicas": 0}


def one(installation: Installation, *, warm: int, asleep: int) -> float:
    """Return seconds to the first token of a round."""
    name = installation.spec.name
    installation.api.post(f"/services/{name}/scale", {"replicas": 0})

    def settled() -> bool:
        status = installation.api.get(f"/services/{name}/status")
        return (
            len(status["warm"]) == warm
            and len(status["asleep"]) == asleep == len([each for each in status["asleep"] if each in status["warm"]])
            and installation.ready_engines() == warm
        )

    installation.until("the pool is as it is to be", settled, within_s=300)
    time.sleep(5 if asleep else 2)  # the move to host memory is over, and gateways know
    return first_token_s(installation.gateway_url)


def measure(name: str, folder: Path, *, rounds: int, startup_s: float) -> list[float]:
    """Return the rounds of one kind of pool."""
    pool = POOLS[name]
    installation = Installation(folder, service(startup_s, pool), workers=0)
    try:
        installation.up()
        warm = pool.get("warm_replicas", 0)
        return [one(installation, warm=warm, asleep=warm if pool.get("warm_asleep") else 0) for _ in range(rounds)]
    finally:
        installation.down()


def main() -> None:
    args = rounds_parser(__doc__, rounds=3, startup_s=20.0).parse_args()
    found: dict[str, Any] = {
        **asked_as("warm_pool"),
        "first_token_s": {},
    }
    for name in POOLS:
        with tempfile.TemporaryDirectory() as folder:
            rounds = measure(name, Path(folder), rounds=args.rounds, startup_s=args.startup_s)
        found["first_token_s"][name] = {"median": statistics.median(rounds), "rounds": rounds}
    found["load_average"] = psutil.getloadavg()
    tell(found, args.json)


if __name__ == "__main__":
    main()
