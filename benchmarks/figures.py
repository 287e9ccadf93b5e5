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
    text = json.dumps(found, indent=1)
    print(text)
    if path:
        path.write_text(text + "\n")
