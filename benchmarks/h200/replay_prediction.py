"""Compare what a calibrated twin predicts for exactly the requests of a load test with what the load test measured.

Usage: python -m benchmarks.h200.replay_prediction FOLDER   (live-8b.json and load-RATE.json of one run)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from controlplane.domain.engine import EngineConfig
from controlplane.domain.report import LoadTestReport
from loadtests.profiles import load_profile as load_traffic
from loadtests.schedule import build_schedule
from tuner.twin.profile import load_profile
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, simulate

FLAGS = {"max-num-seqs": 128, "max-num-batched-tokens": 4096, "max-model-len": 8192, "enable-prefix-caching": False}
METRICS = [("ttft_ms", 50), ("ttft_ms", 99), ("tpot_ms", 50), ("tpot_ms", 99), ("e2e_ms", 50), ("e2e_ms", 99)]


def main(folder: Path) -> None:
    profile = load_profile("live-8b", folder=folder)
    setup = resolve(load_shape("llama-8b"), "H200", EngineConfig(flags=FLAGS), profile)
    errors = []
    for rate in (6, 12, 18):
        report = LoadTestReport.model_validate(json.loads((folder / f"load-{rate}.json").read_text()))
        traffic = load_traffic("chat")
        assert traffic.workload is not None
        schedule = build_schedule(traffic.workload, rate_rps=rate, duration_s=20 + traffic.warmup_s, seed=traffic.seed)
        found = simulate(setup, RequestArrays(schedule.scheduled_s, schedule.prompt_tokens, schedule.output_tokens))
        counted = schedule.scheduled_s >= traffic.warmup_s
        assert int(counted.sum()) == report.requests, "not the same requests"
        tpot = 1e3 * (found.e2e_s - found.ttft_s) / np.maximum(1, schedule.output_tokens - 1)
        tpot[schedule.output_tokens < 2] = np.nan
        values = {"ttft_ms": 1e3 * found.ttft_s, "tpot_ms": tpot, "e2e_ms": 1e3 * found.e2e_s}
        for metric, rank in METRICS:
            measured = getattr(report, metric).at(rank)
            predicted = float(np.nanpercentile(values[metric][counted], rank))
            errors.append(abs(predicted / measured.value - 1))
            figures = f"measured {measured.value:8.1f}  predicted {predicted:8.1f}  {errors[-1]:6.1%}"
            print(f"{rate:>3} rps  P{rank} {metric:<8} {figures}")
    print(f"median error {np.median(errors):.1%}, 90th percentile {np.percentile(errors, 90):.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
