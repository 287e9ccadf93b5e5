"""Our generator as the benchmark runs it: the same code path as `fleetune load`, Locust included."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.loadgen_clients import Outcome
from controlplane.domain.report import Distribution
from controlplane.domain.workload import Lengths, SyntheticWorkload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.runner import Generator

WARMUP_S = 2.0


def run_ours(url: str, *, rate: float, seconds: float, tokens: int, cores: set[int], scratch: Path) -> Outcome:
    """Run one rate; the child inherits this process's cores."""
    workload = SyntheticWorkload(prompt_tokens=Lengths(mean=64), output_tokens=Lengths(mean=tokens))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        with Generator(processes=len(cores)) as generator:
            test = LoadTest(
                workload, rate, url, "truth", seconds, warmup_s=WARMUP_S, seed=int(rate), processes=len(cores)
            )
            report = run_load_test(test, generator, out_dir=scratch / "run").report
    finally:
        os.sched_setaffinity(0, before)
    wall_s = WARMUP_S + seconds + 0.36
    cpu_s = (report.generator_cpu_percent or 0.0) / 100 * wall_s
    sent = round(rate * (WARMUP_S + seconds))
    return Outcome(
        ttft_ms=_p99(report.ttft_ms),
        tpot_ms=_p99(report.tpot_ms),
        e2e_ms=_p99(report.e2e_ms),
        cpu_s=cpu_s,
        tokens=sent * tokens,
        requests=report.requests,
        failed=report.errors,
        skipped=max(0, sent - report.requests),
        note=report.invalid_reason or "",
    )


def _p99(values: Distribution) -> float | None:
    found = values.at(99.0)
    return found.value if found else None
