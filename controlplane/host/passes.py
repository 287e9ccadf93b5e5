"""When the controller of this host last finished a pass: a process that lives may still do nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from controlplane.host.clock import since_boot_s

FILE = "controller.passed"
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
    """Return seconds since the last pass was noted; None: none was in this boot, or it cannot be read."""
    try:
        ago_s = since_boot() - float((data_dir / FILE).read_text())
    except (OSError, ValueError):
        return None
    return ago_s if ago_s >= 0 else None
