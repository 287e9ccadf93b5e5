"""How a benchmark's figures are told: with the command and the day, printed, and written where asked."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def rounds_parser(told: str | None, *, rounds: int, startup_s: float) -> argparse.ArgumentParser:
    """Return what reads the arguments of a benchmark of rounds on emulated engines; `told` is its docstring."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--startup-s", type=float, default=startup_s)
    parser.add_argument("--json", type=Path)
    return parser


def asked_as(name: str) -> dict[str, Any]:
    """Return how a benchmark of this name was asked, and when: `command` and `at`."""
    return {"command": " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]]), "at": time.strftime("%Y-%m-%d")}


def tell(found: Mapping[str, Any], path: Path | None) -> None:
    """Print the figures, and write them to a file unless it is None."""
    print(json.dumps(found, indent=1))
    keep(found, path)


def keep(found: Mapping[str, Any], path: Path | None) -> None:
    """Write the figures to a file unless it is None: after each round, so that a run that is stopped loses none."""
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n")


def say(text: str) -> None:
    """Say how far a benchmark has come, at once, where its figures are not: on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
