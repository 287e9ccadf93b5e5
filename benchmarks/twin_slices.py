"""What share of measured percentiles the twin's 90 % intervals hold, by precision, GPUs, token budget, load and metric.

    python -m benchmarks.twin_slices docs/results/twin-validation.json docs/results/twin-transfer.json

Reads reports of `fleetune twin validate --json`. Percentiles of one run err together: of a slice of one run no share
is known to ten points.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuner.twin.validate import CellMetric, ValidationReport

_LOW_RPS = 8.0


def main(paths: Sequence[str]) -> None:
    """Print a table per report."""
    for path in paths:
        report = ValidationReport.model_validate_json(Path(path).read_text())
        print(f"{path}: {report.coverage:.0%} of all")
        for name, (count, share) in slices(report.cells).items():
            print(f"  {name:18} {count:4} {share:5.0%}")


def slices(cells: Sequence[CellMetric]) -> dict[str, tuple[int, float]]:
    """Return per slice how many percentiles there are of unsaturated cells, and what share the intervals hold."""
    held: dict[str, list[bool]] = defaultdict(list)
    for cell in cells:
        for name in () if cell.saturated else _names(cell):
            held[name].append(cell.low <= cell.measured <= cell.high)
    return {name: (len(found), sum(found) / len(found)) for name, found in sorted(held.items())}


def _names(cell: CellMetric) -> Iterator[str]:
    """Engines are named like `8b-fp8-tp1-s64-t2048`: size, precision, GPUs, sequences, token budget."""
    size, precision, gpus, _, budget = cell.id.split("-")
    yield from (precision, gpus, f"budget {budget[1:]}", f"size {size}", cell.metric)
    yield f"{'to' if cell.rate_rps <= _LOW_RPS else 'beyond'} {_LOW_RPS:g} requests/s"


if __name__ == "__main__":
    main(sys.argv[1:])
