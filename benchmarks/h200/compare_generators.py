"""Compare what two load generators said of the same requests, and each with the engine's own histograms of its run.

Usage: python -m benchmarks.h200.compare_generators FOLDER   (what `generators.sh` wrote)

Two runs of one engine differ a little by themselves, so each generator is held against the engine's histograms of its
own run. Their mean is exact (sum over count), their percentiles are known to a bucket. The engine's clock starts when
its front end has parsed the request and stops when a token leaves the engine core, so a client can only be later; how
much later is HTTP, network, and the client itself. Of two clients on the same engine the one nearer to it is right.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from controlplane.domain.report import Distribution, LoadTestReport

RANKS = (50, 90, 95, 99)
AGREE = 0.05
_NAMES = {
    "ttft": "vllm:time_to_first_token_seconds",
    "tpot": "vllm:request_time_per_output_token_seconds",
    "itl": "vllm:inter_token_latency_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
}
_SAMPLE = re.compile(r"^(?P<name>[\w:]+)_(?P<part>bucket|sum|count)\{(?P<labels>[^}]*)\} (?P<value>\S+)$")
_BOUND = re.compile(r'le="([^"]+)"')


class Histogram(NamedTuple):
    """Requests of one run as the engine counted them. Milliseconds."""

    bounds_ms: tuple[float, ...]
    cumulative: tuple[float, ...]
    sum_ms: float
    requests: float

    @property
    def mean_ms(self) -> float:
        return self.sum_ms / self.requests if self.requests else math.nan

    def bucket(self, percentile: float) -> tuple[float, float]:
        """Return the bounds of the bucket that holds a percentile."""
        below = 0.0
        for bound, seen in zip(self.bounds_ms, self.cumulative, strict=True):
            if seen >= percentile / 100 * self.requests:
                return below, bound
            below = bound
        return below, math.inf


class Figures(NamedTuple):
    """One latency as one generator reported it. Milliseconds."""

    mean_ms: float
    percentiles: dict[int, float]
    server: Histogram


class Run(NamedTuple):
    requests: int
    failed: int
    prompt_tokens: float
    late_ms: float  # P99 of how late requests were sent
    figures: dict[str, Figures]


def main(folder: Path) -> None:
    rates = sorted(float(path.stem.removeprefix("ours-")) for path in folder.glob("ours-*.json"))
    for rate in rates:
        print("\n".join(level(rate, read_ours(folder, rate), read_theirs(folder, rate))) + "\n")


def level(rate: float, ours: Run, theirs: Run) -> list[str]:
    """Return the lines that compare both at one rate."""
    lines = [
        f"{rate:g} requests/s",
        f"  fleetune: {_told(ours)}",
        f"  vllm bench serve: {_told(theirs)}",
        "  latency  figure   fleetune  vllm bench  difference   engine: fleetune's run, vllm bench's run",
    ]
    for name in _NAMES:
        lines += _rows(name, ours.figures[name], theirs.figures[name])
    return [*lines, f"  * the generators differ by more than {AGREE:.0%}"]


def _told(run: Run) -> str:
    return (
        f"{run.requests} requests of {run.prompt_tokens:.1f} prompt tokens, {run.failed} failed, sent late by "
        f"{run.late_ms:.2f} ms (P99)"
    )


def _rows(name: str, ours: Figures, theirs: Figures) -> list[str]:
    own, other = ours.server.mean_ms, theirs.server.mean_ms
    rows = [_row(name, "mean", ours.mean_ms, theirs.mean_ms, f"{own:.2f}, {other:.2f}")]
    for rank in RANKS:
        buckets = f"{_span(ours.server.bucket(rank))}, {_span(theirs.server.bucket(rank))}"
        rows.append(_row(name, f"P{rank}", ours.percentiles[rank], theirs.percentiles[rank], buckets))
    return [*rows, f"  {name:<8} {_verdict(ours, theirs)}"]


def _row(name: str, figure: str, ours: float, theirs: float, engine: str) -> str:
    difference = theirs / ours - 1
    mark = "" if abs(difference) <= AGREE else " *"
    return f"  {name:<8} {figure:<7} {ours:>9.2f} {theirs:>11.2f} {difference:>+11.1%}{mark:<3} {engine}"


def _span(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g}–{bounds[1]:g}"


def _verdict(ours: Figures, theirs: Figures) -> str:
    """Say who is nearer to the engine's mean of its own run; a hundredth of that mean is no difference."""
    own, other = ours.mean_ms - ours.server.mean_ms, theirs.mean_ms - theirs.server.mean_ms
    nearer = "fleetune" if abs(own) < abs(other) else "vllm bench serve"
    if abs(abs(own) - abs(other)) < 0.01 * ours.server.mean_ms:
        nearer = "neither"
    return f"above the engine's own mean: fleetune {own:+.2f} ms, vllm bench serve {other:+.2f} ms; nearer: {nearer}"


def read_ours(folder: Path, rate: float) -> Run:
    """Read `fleetune load`'s report and the engine's histograms of its run."""
    report = LoadTestReport.model_validate_json((folder / f"ours-{rate:g}.json").read_text())
    servers = _histograms(folder, f"ours-{rate:g}")
    found = {name: _of_distribution(getattr(report, f"{name}_ms"), servers[name]) for name in _NAMES}
    lag = report.lag_ms.at(99.0)
    prompt_tokens = report.prompt_tps / report.throughput_rps
    return Run(report.requests, report.errors, prompt_tokens, lag.value if lag else math.nan, found)


def _of_distribution(found: Distribution, server: Histogram) -> Figures:
    assert found.mean is not None
    return Figures(found.mean, {int(each.percentile): each.value for each in found.percentiles}, server)


def read_theirs(folder: Path, rate: float) -> Run:
    """Read the result file of `vllm bench serve --save-detailed` and the engine's histograms of its run."""
    result = json.loads((folder / f"theirs-{rate:g}.json").read_text())
    servers = _histograms(folder, f"theirs-{rate:g}")
    called = {name: name if name != "e2e" else "e2el" for name in _NAMES}
    found = {name: _of_result(result, called[name], servers[name]) for name in _NAMES}
    instants = [json.loads(line)["timestamp"] for line in (folder / f"trace-{rate:g}.jsonl").open()]
    requests = result["completed"] + result["failed"]
    return Run(requests, result["failed"], float(np.mean(result["input_lens"])), _late_ms(result, instants), found)


def _of_result(result: dict[str, Any], name: str, server: Histogram) -> Figures:
    percentiles = {rank: float(result[f"p{rank}_{name}_ms"]) for rank in RANKS}
    return Figures(float(result[f"mean_{name}_ms"]), percentiles, server)


def _late_ms(result: dict[str, Any], instants: list[float]) -> float:
    """P99 of lateness against the promptest request: the file does not say when its clock started."""
    offsets = np.array(result["start_times"]) - np.array(instants)
    return float(1e3 * np.percentile(offsets - offsets.min(), 99))


def _histograms(folder: Path, run: str) -> dict[str, Histogram]:
    before, after = ((folder / f"{run}-{when}.txt").read_text() for when in ("before", "after"))
    return {name: histogram(before, after, of) for name, of in _NAMES.items()}


def histogram(before: str, after: str, name: str) -> Histogram:
    """Return what a histogram of a Prometheus exposition gained between two scrapes of seconds."""
    first, last = _parts(before, name), _parts(after, name)
    gained = {part: last[part] - first.get(part, 0.0) for part in last}
    bounds = sorted(part for part in gained if isinstance(part, float))
    return Histogram(
        tuple(1e3 * bound for bound in bounds),
        tuple(gained[bound] for bound in bounds),
        1e3 * gained["sum"],
        gained["count"],
    )


def _parts(text: str, name: str) -> dict[str | float, float]:
    """Return the parts of one histogram by name or upper bound, summed over the engine's label sets."""
    parts: dict[str | float, float] = {}
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found and found["name"] == name:
            bound = _BOUND.search(found["labels"])
            part: str | float = float(bound[1]) if bound else found["part"]
            parts[part] = parts.get(part, 0.0) + float(found["value"])
    return parts


if __name__ == "__main__":
    main(Path(sys.argv[1]))
