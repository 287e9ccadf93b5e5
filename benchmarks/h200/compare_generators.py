"""Two load generators that sent the same requests to one engine, held against each other and the engine's own clock.

The engine's histograms have coarse buckets but exact sums, so means are compared with it; its clock starts when a
request has arrived and ends when the engine core hands a token on, so it must be below a client that reads at once.

Usage: python -m benchmarks.h200.compare_generators FOLDER   (what generators.sh wrote)
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from controlplane.domain.report import Distribution, LoadTestReport

RATES = ("10", "120")
METRICS = {
    "TTFT": ("ttft_ms", "ttft", "time_to_first_token"),
    "TPOT": ("tpot_ms", "tpot", "request_time_per_output_token"),
    "E2E": ("e2e_ms", "e2el", "e2e_request_latency"),
}
"""Metric → our field, vLLM's suffix, the engine's histogram."""


class Row(NamedTuple):
    """One figure, milliseconds; the engine's is None for percentiles."""

    name: str
    ours: float
    theirs: float
    engine_ours: float | None = None
    engine_theirs: float | None = None


def main(folder: Path) -> None:
    for rate in RATES:
        ours = LoadTestReport.model_validate_json((folder / f"ours-{rate}.json").read_text())
        theirs = json.loads((folder / f"vllm-{rate}.json").read_text())
        print(
            f"\n{rate} requests/s: {ours.requests} requests of ours ({ours.validity}), {theirs['completed']} of vLLM's"
        )
        print("               ours      vLLM's   differ    engine during ours / vLLM's   above the engine's")
        for row in rows(folder, rate, ours, theirs):
            print(line(row))


def rows(folder: Path, rate: str, ours: LoadTestReport, theirs: dict[str, Any]) -> list[Row]:
    found = []
    for name, (field, suffix, histogram) in METRICS.items():
        mine: Distribution = getattr(ours, field)
        clocks = [engine_mean_ms(folder, f"{who}-{rate}", histogram) for who in ("ours", "vllm")]
        found.append(Row(f"mean {name}", mine.mean or 0.0, theirs[f"mean_{suffix}_ms"], *clocks))
        for rank in (50, 90, 99):
            if (percentile := mine.at(rank)) is not None:
                found.append(Row(f"P{rank} {name}", percentile.value, theirs[f"p{rank}_{suffix}_ms"]))
    return found


def engine_mean_ms(folder: Path, run: str, histogram: str) -> float:
    """Return the engine's own mean over one run, from what its counters grew by."""
    before, after = ((folder / f"{when}-{run}.txt").read_text() for when in ("before", "after"))
    total, count = (
        counter(after, f"{histogram}_seconds_{end}") - counter(before, f"{histogram}_seconds_{end}")
        for end in ("sum", "count")
    )
    return 1e3 * total / count


def counter(metrics: str, name: str) -> float:
    values = re.findall(rf"^vllm:{name}(?:\{{[^}}]*\}})?\s+([0-9.eE+-]+)", metrics, re.MULTILINE)
    return sum(map(float, values))


def line(row: Row) -> str:
    text = f"{row.name:<10} {row.ours:9.2f} {row.theirs:11.2f} {row.theirs / row.ours - 1:+8.1%}"
    if row.engine_ours is None or row.engine_theirs is None:
        return text
    above = f"{row.ours - row.engine_ours:+.2f} / {row.theirs - row.engine_theirs:+.2f} ms"
    return f"{text}    {row.engine_ours:9.2f} / {row.engine_theirs:.2f} ms          {above}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
