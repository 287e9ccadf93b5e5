"""How a benchmark's figures are told: with the command and the day, printed, and written where asked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
