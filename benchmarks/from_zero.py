"""How long the first answer of a service that scaled to zero takes, beyond the start of its engine.

    python -m benchmarks.from_zero [--rounds 5] [--startup-s 5] [--json PATH]

A whole installation on an emulated engine; each round waits until nothing runs, sends three requests at once, and takes
the time to the first token of each less what the engine itself took from its process to ready; its parts are the time
from asking to the engine's process, and from ready to the first token of the slowest.

Before the second round it goes to zero by itself (75 s), before the further ones by hand, which a request wakes alike.
Each round is told as it ends and the file is written anew.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from benchmarks.figures import asked_as, keep, rounds_parser, say, tell
from tests.e2e.loop.installation import SERVICE, Installation

AT_ONCE = 3
ZERO_AFTER_S = 60


class Round(NamedTuple):
    first_token_s: float  # of the slowest
    startup_s: float  # of the engine, from its process to ready
    answered: int
    to_start_s: float  # from the first request to the engine's process
    to_token_s: float  # from ready to the first token of the slowest


def service(startup_s: float) -> dict[str, Any]:
    emulator = {"startup_s": startup_s, "time_lapse": 1, "max_lag_ms": 1000}
    scale = {"enabled": True, "min_replicas": 0, "zero_after_s": ZERO_AFTER_S, "window_s": 15, "capacity_rps": 2}
    return SERVICE | {
        "engine": SERVICE["engine"] | {"emulator": emulator},
        "autoscale": scale,
        "initial_replicas": 0,
    }


def first_token_s(url: str, model: str = "llama-70b") -> float:
    """Return seconds from asking to the first piece of the answer. Raises what httpx raises."""
    body = {"model": model, "stream": True, "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}
    began = time.monotonic()
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=300) as answer:
        answer.raise_for_status()
        next(answer.iter_bytes())
        return time.monotonic() - began


def one(installation: Installation) -> Round:
    installation.until("nothing runs", lambda: installation.ready_engines() == 0, within_s=4 * ZERO_AFTER_S)
    time.sleep(2)
    asked = datetime.now(UTC)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        took = list(pool.map(first_token_s, [installation.gateway_url] * AT_ONCE))
    (engine,) = (each for each in installation.engines() if each["state"] == "ready")
    began, ready = (datetime.fromisoformat(engine[name]) for name in ("started_at", "ready_at"))
    to_start_s, startup_s = (began - asked).total_seconds(), (ready - began).total_seconds()
    return Round(max(took), startup_s, len(took), to_start_s, max(took) - to_start_s - startup_s)


def measure(args: argparse.Namespace, folder: Path, known: Callable[[Sequence[Round]], None]) -> list[Round]:
    """Return the rounds; `known` is given those so far after each."""
    installation, rounds = Installation(folder, service(args.startup_s)), list[Round]()
    try:
        installation.up()
        for number in range(args.rounds):
            if number > 1:
                installation.api.post(f"/services/{installation.spec.name}/scale", {"replicas": 0})
            rounds.append(one(installation))
            say(f"round {number + 1} of {args.rounds}: {rounds[-1]}")
            known(rounds)
        return rounds
    finally:
        installation.down()


def figures(rounds: Sequence[Round], *, of: int) -> dict[str, Any]:
    """Return what the rounds that were made came to. `of`: how many are to be."""
    beyond = [each.first_token_s - each.startup_s for each in rounds]
    return asked_as("from_zero") | {
        "load_average": psutil.getloadavg(),
        "of_rounds": of,
        "to_start_s": statistics.median(each.to_start_s for each in rounds),
        "to_token_s": statistics.median(each.to_token_s for each in rounds),
        "beyond_startup_s": {"median": statistics.median(beyond), "longest": max(beyond)},
        "within_2_s": sum(each <= 2.0 for each in beyond),
        "rounds": [each._asdict() for each in rounds],
    }


def main() -> None:
    args = rounds_parser(__doc__, rounds=5, startup_s=5.0).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = measure(args, Path(folder), lambda known: keep(figures(known, of=args.rounds), args.json))
    tell(figures(rounds, of=args.rounds), args.json)


if __name__ == "__main__":
    main()
