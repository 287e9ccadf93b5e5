"""How every benchmark of a door ends: measured in a folder of its own, printed, written where asked."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any


def publish(
    args: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Path], Coroutine[Any, Any, dict[str, Any]]],
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Measure, print, and write the figures to `args.json` unless it is None."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(args, Path(folder)))
    show(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
