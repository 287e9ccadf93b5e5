"""When the controller of this host last finished a pass: a process that lives may still do nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from controlplane.host.clock import since_boot_s

FILE = "controller.passed"
PROCESSES = "processes.json"
"""Whoever keeps the processes running says here which do, and since when one dies soon after each of its starts."""
DYING = "dying_since_s"
WRITE_EVERY_S = 5.0


class Passes:
    """Writes down that passes go on, every few seconds at most. Not on a disk that is full, which others tell."""

    def __init__(self, data_dir: Path, *, since_boot: Callable[[], float] = since_boot_s) -> None:
        self._path = data_dir / FILE
        self._since_boot = since_boot
        self._written_s = float("-inf")

    def done(self) -> None:
        """Note that a pass ended, or that the first is to begin."""
        now_s = self._since_boot()
        if now_s - self._written_s < WRITE_EVERY_S:
            return
        with suppress(OSError):
            self._path.write_text(f"{now_s:.1f}")
            self._written_s = now_s

    def noting(self, one_pass: Callable[[], bool]) -> Callable[[], bool]:
        """Return the pass that notes its end; one that raises is none."""

        def noted() -> bool:
            again = one_pass()
            self.done()
            return again

        return noted


def passed_s_ago(data_dir: Path, *, since_boot: Callable[[], float] = since_boot_s) -> float | None:
    """Return seconds since the last pass was noted; None: none was in this boot, or it cannot be read.

    Passes of a controller that dies soon after each start are none: what it begins is never brought to an end.
    """
    noted = [_noted_s(data_dir), _dying_since_s(data_dir)]
    ago_s = max((since_boot() - each for each in noted if each is not None), default=-1.0)
    return ago_s if ago_s >= 0 else None


def _noted_s(data_dir: Path) -> float | None:
    try:
        return float((data_dir / FILE).read_text())
    except (OSError, ValueError):
        return None


def _dying_since_s(data_dir: Path) -> float | None:
    try:
        since_s = json.loads((data_dir / PROCESSES).read_text())["controller"].get(DYING)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None  # nothing runs it, or an earlier version does
    return since_s if isinstance(since_s, float) else None
