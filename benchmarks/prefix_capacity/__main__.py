"""Capacity at shares 0, 0.5 and 0.9 of common text, caching on and off: predicted against emulated or measured.

    python -m benchmarks.prefix_capacity --json docs/results/prefix-capacity.json
    python -m benchmarks.prefix_capacity --target http://127.0.0.1:8100 --model llama-8b --caching on --out FOLDER
    python -m benchmarks.prefix_capacity --compare FOLDER

The first compares the twin with the emulator's engine in virtual time, a dense model on an H200 and a mixture on an
H100. The second measures one running engine (`benchmarks/h200/prefix.sh` starts it) within `--limit-s`, the third
prints what such runs left in a folder. The target: every capacity within 15 % of the prediction.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.prefix_capacity.cells import DENSE, MIXTURE, Cell, Engine, Level, cells_of, predicted_rps
from benchmarks.prefix_capacity.climb import TARGET, bracket, found, is_bracketed, next_rate
from benchmarks.prefix_capacity.emulated import run_level
from benchmarks.prefix_capacity.measured import load_level, measure, wait_for

_EMULATED_LEVELS = 5

Row = dict[str, Any]


def main() -> None:
    """Compare, and say whether every cell is within the target: exit code 1 where one is not."""
    given = _arguments()
    if given.compare is not None:
        rows = [row for path in sorted(given.compare.glob("cells-*.json")) for row in json.loads(path.read_text())]
    elif given.target is not None:
        rows = _measured(given)
    else:
        rows = [_emulated(cell) for cell in _all_cells()]
        _write(given.json, rows)
    print("\n".join(table(rows)))
    sys.exit(0 if all(row["within_target"] for row in rows) else 1)


def _all_cells() -> Iterable[Cell]:
    return (cell for engine in (DENSE, MIXTURE) for on in (True, False) for cell in cells_of(engine, caching=on))


def _emulated(cell: Cell) -> Row:
    expected_rps, levels = predicted_rps(cell), list[Level]()
    while len(levels) < _EMULATED_LEVELS or not is_bracketed(levels):
        levels.append(run_level(cell, next_rate(levels, expected_rps)))
    return row_of(cell, expected_rps, levels)


def _measured(given: argparse.Namespace) -> list[Row]:
    """Ask the twin while the engine starts, then measure; the rows stay in a file of their own."""
    ends_s = time.monotonic() + given.limit_s
    cells = cells_of(Engine(DENSE.name, DENSE.shape, given.gpu), caching=given.caching == "on")
    expected = {cell: predicted_rps(cell) for cell in cells}
    wait_for(given.target, ends_s - time.monotonic())
    level_at = partial(load_level, url=given.target, model=given.model, out=given.out)
    measured = measure(expected, level_at, limit_s=ends_s - time.monotonic())
    rows = [row_of(cell, expected[cell], levels) for cell, levels in measured.items()]
    (given.out / f"cells-{given.caching}.json").write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def row_of(cell: Cell, predicted: float, levels: Sequence[Level]) -> Row:
    """Return one cell of the table and of the JSON."""
    low, high = bracket(levels)
    capacity = found(levels)
    off = predicted / capacity - 1 if capacity else None
    return {
        "engine": f"{cell.engine.name} on {cell.engine.gpu}",
        "caching": cell.caching,
        "share": int(cell.share) / 100,
        "predicted_rps": round(predicted, 3),
        "found_rps": round(capacity, 3),
        "passed_rps": round(low.rate_rps, 3) if low else None,
        "missed_rps": round(high.rate_rps, 3) if high else None,
        "off": None if off is None else round(off, 4),
        "within_target": is_bracketed(levels) and off is not None and abs(off) <= TARGET,
        "levels": [_plain(level) for level in levels],
    }


def _plain(level: Level) -> Row:
    worst = round(level.worst, 4) if math.isfinite(level.worst) else None
    return {**level._asdict(), "rate_rps": round(level.rate_rps, 3), "worst": worst}


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows in Markdown."""
    head = "| engine | caching | share | predicted, requests/s | found (passed to missed) | off | within 15 % |"
    return [head, "|---" * 7 + "|", *map(_line, rows)]


def _line(row: Row) -> str:
    caching, verdict = ("on" if row["caching"] else "off"), ("yes" if row["within_target"] else "**no**")
    low, high = (_rate(row[name]) for name in ("passed_rps", "missed_rps"))
    off = "?" if row["off"] is None else f"{row['off']:+.1%}"
    found_rps = f"{_rate(row['found_rps'])} ({low} to {high})"
    expected = _rate(row["predicted_rps"])
    return f"| {row['engine']} | {caching} | {row['share']:g} | {expected} | {found_rps} | {off} | {verdict} |"


def _rate(rps: float | None) -> str:
    return "?" if rps is None else f"{rps:.1f}"


def _write(path: Path | None, rows: Sequence[Row]) -> None:
    if path is None:
        return
    command = "python -m benchmarks.prefix_capacity --json FILE"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    path.write_text(json.dumps({"command": command, "at": at, "target": TARGET, "rows": list(rows)}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the comparison with the emulator goes")
    parser.add_argument("--compare", type=Path, help="a folder of earlier measurements: print them")
    parser.add_argument("--target", help="URL of an engine to measure")
    parser.add_argument("--model", default=DENSE.shape, help="its served name")
    parser.add_argument("--gpu", default=DENSE.gpu, help="what it runs on")
    parser.add_argument("--caching", choices=("on", "off"), default="on", help="how it was started")
    parser.add_argument("--out", type=Path, default=Path("prefix"), help="folder of its reports")
    parser.add_argument("--limit-s", type=float, default=220.0, help="from now, the engine's start included")
    return parser.parse_args()


if __name__ == "__main__":
    main()
