"""Our generator as the benchmark runs it: the same code path as `fleetune load`, Locust included."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

from benchmarks.loadgen_clients import Outcome
from controlplane.domain.report import Distribution
from controlplane.domain.workload import Lengths, SyntheticWorkload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.send.runner import Generator
from loadtests.send.schedule import build_schedule

WARMUP_S = 2.0


def run_ours(
    url: str,
    *,
    rate: float,
    seconds: float,
    tokens: int,
    cores: Collection[int],
    scratch: Path,
    others: Collection[int] = (),
) -> Outcome:
    """Run one rate with one process per core, each on its own; this process and Locust's master go to `others`."""
    pinned = tuple(sorted(cores))
    workload = SyntheticWorkload(prompt_tokens=Lengths(mean=64), output_tokens=Lengths(mean=tokens))
    schedule = build_schedule(workload, rate_rps=rate, duration_s=WARMUP_S + seconds, seed=int(rate))
    test = LoadTest(None, rate, url, "truth", seconds, warmup_s=WARMUP_S, processes=len(pinned), cores=pinned)
    out_dir = scratch / "run"
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, others or pinned)
    try:
        with Generator(processes=len(pinned)) as generator:
            report = run_load_test(test, generator, out_dir=out_dir, schedule=schedule).report
    finally:
        os.sched_setaffinity(0, before)
    return Outcome(
        ttft_ms=_p99(report.ttft_ms),
        tpot_ms=_p99(report.tpot_ms),
        e2e_ms=_p99(report.e2e_ms),
        cpu_s=_cpu_s(out_dir),
        tokens=len(schedule) * tokens,
        requests=report.requests,
        failed=report.errors,
        skipped=len(schedule) - report.requests,
        note=report.invalid_reason or "",
    )


def _cpu_s(out_dir: Path) -> float:
    """CPU of all processes from the start of the run to its end."""
    summaries = [json.loads(path.read_text()) for path in out_dir.glob("summary-*.json")]
    return float(sum(each["cpu_percent"] / 100 * each["wall_s"] for each in summaries))


def _p99(values: Distribution) -> float | None:
    found = values.at(99.0)
    return found.value if found else None
