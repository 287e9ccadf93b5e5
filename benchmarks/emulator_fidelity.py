"""Emulator against twin: the same requests through the process over HTTP and through the twin in virtual time.

    python -m benchmarks.emulator_fidelity --json docs/results/emulator_fidelity.json

The emulator is pinned to one core and the client to another. The client opens its connections beforehand, sends each
request at its scheduled instant whatever the server does, and stamps what it reads as it comes in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.stream_client import Client, Request, Seen
from controlplane.emulator.boot import engine_setup
from controlplane.emulator.clock import precise_event_loop
from controlplane.emulator.flags import parse_command_line
from loadtests.send.traces import load_trace
from tuner.twin.engine import TwinEngine

_SHARED_FLAGS = ("--max-model-len=8192", "--max-num-seqs=512", "--no-enable-prefix-caching")
_NOISE_RUNS = 5
_PERCENTILES = (50, 90, 99)
_RELATIVE, _ABSOLUTE_MS = 0.03, 2.0


class Cell(NamedTuple):
    """One engine under one load."""

    name: str
    model: str
    flags: tuple[str, ...]
    rate_rps: float | None  # None: 500 equal streams that all overlap


CELLS = (
    Cell("8b-20rps", "llama-8b", (), 20),
    Cell("70b-5rps", "llama-70b", ("--tensor-parallel-size=2",), 5),
    Cell("8b-500-streams", "llama-8b", (), None),
)


def main() -> None:
    arguments = _arguments()
    every_core = sorted(os.sched_getaffinity(0))
    cells = [cell for cell in CELLS if cell.name in arguments.cells]
    results = [run_cell(cell, arguments.duration_s, arguments.seed, every_core) for cell in cells]
    report = {
        "command": " ".join(["python -m benchmarks.emulator_fidelity", *sys.argv[1:]]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {len(every_core)} cores, Python {platform.python_version()}",
        "target": f"every percentile within {_RELATIVE:.0%} or {_ABSOLUTE_MS:g} ms of the twin",
        "cells": results,
    }
    for cell in results:
        print_cell(cell)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def run_cell(cell: Cell, duration_s: float, seed: int, cores: Sequence[int]) -> dict[str, Any]:
    """Return the percentiles of both and whether they agree."""
    requests = plan(cell, duration_s, seed)
    line = (cell.model, *_SHARED_FLAGS, *cell.flags, "--emulator-startup-s=0", "--port=0")
    expected = twin(line, requests)
    shifted = [twin(line, jittered(requests, number)) for number in range(_NOISE_RUNS)]
    with emulator(line, cores[0]) as (port, process):
        idle_cpu_s = sum(process.cpu_times()[:2])
        os.sched_setaffinity(0, {cores[-1]})
        with asyncio.Runner(loop_factory=precise_event_loop) as runner:
            seen, lag_ms = runner.run(Client(port, requests).run())
        cpu_s = sum(process.cpu_times()[:2]) - idle_cpu_s
        metrics = _metrics(port)
        os.sched_setaffinity(0, set(cores))
    short = sum(one.tokens != request.output_tokens for one, request in zip(seen, requests, strict=True))
    rows = compare(seen, expected, shifted)
    return {
        "cell": cell.name,
        "requests": len(requests),
        "tokens": sum(one.tokens for one in seen),
        "answers_with_wrong_token_count": short,
        "most_streams_at_once": _most_at_once(requests, seen),
        "client_send_lag_p99_ms": round(float(np.percentile(lag_ms, 99)), 3),
        "emulator_cpu_us_per_token": round(cpu_s / sum(one.tokens for one in seen) * 1e6, 1),
        "emulator_lag_mean_ms": _mean_lag_ms(metrics),
        "percentiles": rows,
        "within_target": all(row["within_target"] for row in rows),
    }


def plan(cell: Cell, duration_s: float, seed: int) -> list[Request]:
    """Return the Azure conversation trace's lengths at Poisson arrivals, or 500 streams started over five seconds."""
    if cell.rate_rps is None:
        return [Request(number / 100, 128, 600) for number in range(500)]
    draw = np.random.default_rng(seed)
    trace = load_trace("azure-llm-2023/conv")
    count = int(cell.rate_rps * duration_s)
    rows = draw.permutation(len(trace))[:count]
    arrivals = np.cumsum(draw.exponential(1 / cell.rate_rps, count))
    prompts, outputs = np.minimum(trace.prompt_tokens[rows], 7000), np.minimum(trace.output_tokens[rows], 1000)
    return [Request(float(at), int(p), int(o)) for at, p, o in zip(arrivals, prompts, outputs, strict=True)]


def jittered(requests: Sequence[Request], seed: int) -> list[Request]:
    """Return the requests with each arrival moved by up to a millisecond: what any two runs differ by at least."""
    draw = np.random.default_rng(1000 + seed)
    return [request._replace(at_s=request.at_s + float(draw.uniform(0, 0.001))) for request in requests]


def twin(line: Sequence[str], requests: Sequence[Request]) -> list[Seen]:
    """Return what the twin says a client sees, without any HTTP."""
    _, setup = engine_setup(parse_command_line(line, visible_devices=None))
    engine = TwinEngine(setup)
    for number, request in enumerate(requests):
        engine.submit(number, prompt_tokens=request.prompt_tokens, max_tokens=request.output_tokens, now_s=request.at_s)
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    while (event_s := engine.next_event_s) is not None:
        step = engine.next_step(event_s)
        for emission in step.emitted if step is not None else ():
            first.setdefault(emission.request_id, emission.at_s)
            last[emission.request_id] = emission.at_s
    return [
        Seen((first[n] - request.at_s) * 1e3, (last[n] - request.at_s) * 1e3, request.output_tokens)
        for n, request in enumerate(requests)
    ]


def compare(seen: Sequence[Seen], expected: Sequence[Seen], shifted: Sequence[Sequence[Seen]]) -> list[dict[str, Any]]:
    """Return one row per metric and percentile.

    `twin_noise` is how far the twin's own percentile moves when arrivals move by up to a millisecond (largest of a few
    runs): a batching engine is chaotic, so percentiles of a short run are no sharper than that.
    """
    rows: list[dict[str, Any]] = []
    for metric, of in (("ttft_ms", _ttft), ("tpot_ms", _tpot), ("e2e_ms", _e2e)):
        ours, theirs = of(seen), of(expected)
        for percentile in _PERCENTILES:
            emulated, predicted = float(np.percentile(ours, percentile)), float(np.percentile(theirs, percentile))
            off = emulated - predicted
            noise = max(abs(float(np.percentile(of(other), percentile)) - predicted) for other in shifted)
            good = abs(off) <= max(_RELATIVE * predicted, _ABSOLUTE_MS if metric != "tpot_ms" else 0.0)
            figures = {"twin": round(predicted, 3), "emulator": round(emulated, 3), "error": round(off / predicted, 4)}
            named = {"metric": f"{metric[:-3]}_p{percentile}_ms", **figures, "twin_noise": round(noise / predicted, 4)}
            rows.append({**named, "within_target": good})
    return rows


def print_cell(cell: dict[str, Any]) -> None:
    facts = ", ".join(f"{key} {value}" for key, value in cell.items() if key not in ("cell", "percentiles"))
    print(f"\n{cell['cell']}: {facts}")
    for row in cell["percentiles"]:
        verdict = "" if row["within_target"] else "  <-- off"
        figures = f"twin {row['twin']:10.2f}  emulator {row['emulator']:10.2f}  {row['error']:+.1%}"
        print(f"  {row['metric']:14} {figures} (noise {row['twin_noise']:.1%}){verdict}")


@contextmanager
def emulator(line: Sequence[str], core: int) -> Iterator[tuple[int, psutil.Process]]:
    """Run an emulator on one core; yields its port and its process."""
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "controlplane.emulator.main", *line]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=log, text=True)
        try:
            assert process.stderr is not None
            port = next(int(found[1]) for row in process.stderr if (found := re.search(r"running on .*:(\d+) ", row)))
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _metrics(port: int) -> str:
    command = ["curl", "-s", f"http://127.0.0.1:{port}/metrics"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _mean_lag_ms(metrics: str) -> float:
    total, count = (
        float(re.search(rf"fleetune:emulator_lag_seconds_{part}\S* (\S+)", metrics)[1])  # type: ignore[index]
        for part in ("sum", "count")
    )
    return round(total / count * 1e3, 3)


def _most_at_once(requests: Sequence[Request], seen: Sequence[Seen]) -> int:
    edges = [(r.at_s, 1) for r in requests] + [
        (r.at_s + s.e2e_ms / 1e3, -1) for r, s in zip(requests, seen, strict=True)
    ]
    return int(np.cumsum([step for _, step in sorted(edges)]).max())


def _ttft(seen: Sequence[Seen]) -> list[float]:
    return [one.ttft_ms for one in seen]


def _e2e(seen: Sequence[Seen]) -> list[float]:
    return [one.e2e_ms for one in seen]


def _tpot(seen: Sequence[Seen]) -> list[float]:
    return [(one.e2e_ms - one.ttft_ms) / (one.tokens - 1) for one in seen if one.tokens > 1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [cell.name for cell in CELLS]
    parser.add_argument("--cells", nargs="+", choices=names, default=names)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
