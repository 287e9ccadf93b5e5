"""Compare what the twin predicts for exactly the requests of a load test with what the load test measured.

Once with the profile calibrated on that very engine, once with the profile that ships for such engines.

Usage: python -m benchmarks.h200.replay_prediction FOLDER   (live-8b.json and PROFILE-RATE.json, as engine.sh writes)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.report import LoadTestReport
from loadtests.send.profiles import load_profile as load_traffic
from loadtests.send.schedule import build_schedule
from tuner.twin.compiled_state import Floats
from tuner.twin.profile import Profile, load_profile
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, simulate

FLAGS = {"max-num-seqs": 128, "max-num-batched-tokens": 4096, "max-model-len": 8192, "enable-prefix-caching": False}
METRICS = [("ttft_ms", 50), ("ttft_ms", 99), ("tpot_ms", 50), ("tpot_ms", 99), ("e2e_ms", 50), ("e2e_ms", 99)]


def main(folder: Path) -> None:
    profiles = {
        "calibrated here": load_profile("live-8b", folder=folder),
        "shipped": load_profile("h200-llama-8b-bf16-tp1"),
    }
    for name, profile in profiles.items():
        print(f"profile {name}")
        errors = [error for file in load_tests(folder) for error in compared(file, profile)]
        print(f"median error {np.median(errors):.1%}, 90th percentile {np.percentile(errors, 90):.1%}\n")


def load_tests(folder: Path) -> list[Path]:
    """Return the reports of a folder by traffic and rate."""
    found = [(re.fullmatch(r"(chat|code)-(\d+)\.json", file.name), file) for file in folder.iterdir()]
    return [file for match, file in sorted((match.groups(), file) for match, file in found if match)]


def compared(file: Path, profile: Profile) -> list[float]:
    """Print and return the relative errors of every metric of one load test."""
    traffic, rate = file.stem.split("-")
    report = LoadTestReport.model_validate_json(file.read_text())
    values = predicted(resolve(load_shape("llama-8b"), "H200", EngineConfig(flags=FLAGS), profile), traffic, report)
    errors = []
    for metric, rank in METRICS:
        measured = getattr(report, metric).at(rank)
        expected = float(np.nanpercentile(values[metric], rank))
        errors.append(abs(expected / measured.value - 1))
        figures = f"measured {measured.value:8.1f}  predicted {expected:8.1f}  {errors[-1]:6.1%}"
        print(f"{traffic} {rate:>3} rps  P{rank} {metric:<8} {figures}")
    return errors


def predicted(setup: EngineSetup, name: str, report: LoadTestReport) -> dict[str, Floats]:
    """Return the predicted latencies (ms) of the requests that the report counts."""
    traffic = load_traffic(name)
    assert traffic.workload is not None
    span_s = report.duration_s + traffic.warmup_s
    schedule = build_schedule(traffic.workload, rate_rps=report.rate_rps, duration_s=span_s, seed=report.seed)
    found = simulate(setup, RequestArrays(schedule.scheduled_s, schedule.prompt_tokens, schedule.output_tokens))
    counted = schedule.scheduled_s >= traffic.warmup_s
    if int(counted.sum()) != report.requests:
        raise ValueError(f"{name} at {report.rate_rps:g}: {int(counted.sum())} requests, measured {report.requests}")
    tpot = 1e3 * (found.e2e_s - found.ttft_s) / np.maximum(1, schedule.output_tokens - 1)
    tpot[schedule.output_tokens < 2] = np.nan
    every = {"ttft_ms": 1e3 * found.ttft_s, "tpot_ms": tpot, "e2e_ms": 1e3 * found.e2e_s}
    return {metric: column[counted] for metric, column in every.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
