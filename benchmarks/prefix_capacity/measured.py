"""One running engine, measured: `fleetune load` at rate after rate, each cell in turn, until its time is up."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.prefix_capacity.cells import Cell, Level
from benchmarks.prefix_capacity.climb import is_bracketed, next_rate
from controlplane.domain.report import LoadTestReport, Validity

_MOST_LEVELS = 5
_LEVEL_S = 22.0  # of wall clock: warm-up, measured time, the last answers, a process's start

Levels = dict[Cell, list[Level]]


def wait_for(url: str, limit_s: float) -> None:
    """Wait until the engine is healthy. Raises TimeoutError when it is not by then."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise TimeoutError(f"{url} was not healthy within {limit_s:g} s")


def measure(
    expected: dict[Cell, float],
    level_at: Callable[[Cell, float], Level],
    *,
    limit_s: float,
    now: Callable[[], float] = time.monotonic,
) -> Levels:
    """Return the levels of every cell, one each in turn: until all are bracketed, then while there is time."""
    levels: Levels = {cell: [] for cell in expected}
    end_s = now() + limit_s
    while now() + _LEVEL_S < end_s and (cell := _next(levels)) is not None:
        levels[cell].append(level_at(cell, next_rate(levels[cell], expected[cell])))
    return levels


def _next(levels: Levels) -> Cell | None:
    """Return whose turn it is: of those without a bracket the one with the fewest levels; None when all have many."""
    more = [cell for cell, done in levels.items() if len(done) < _MOST_LEVELS]
    unbracketed = [cell for cell in more if not is_bracketed(levels[cell])]
    return min(unbracketed or more, key=lambda cell: len(levels[cell]), default=None)


def load_level(cell: Cell, rate_rps: float, *, url: str, model: str, out: Path) -> Level:
    """Run `fleetune load` once; its report stays in `out`. Raises CalledProcessError when it could not run."""
    path = out / f"{cell.name}-{rate_rps:.2f}.json"
    words = ["load", "-f", str(cell.profile_path), "--target", url, "--model", model, "--rate", f"{rate_rps:.4f}"]
    command = [sys.executable, "-m", "controlplane.cli.main", *words, "--json", str(path)]
    with path.with_suffix(".log").open("w") as log:
        ended = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if not path.exists():
        raise subprocess.CalledProcessError(ended, command)
    return level_of(LoadTestReport.model_validate_json(path.read_text()))


def level_of(report: LoadTestReport) -> Level:
    """Return what a report says of its limits, failed requests counted as misses."""
    checks = report.slo_checks
    within = all(check.miss_ratio <= check.slo.allowed_miss_ratio + 1e-9 for check in checks)
    ratios = [check.measured.value / check.slo.limit_ms if check.measured else math.inf for check in checks]
    return Level(report.rate_rps, within, max(ratios), valid=report.validity is Validity.VALID)
