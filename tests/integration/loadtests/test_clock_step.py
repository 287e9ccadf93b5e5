"""Somebody sets the wall clock in the middle of a run: latencies stay what they were."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from controlplane.domain.workload import ArrivalProcess, Arrivals, Lengths, SyntheticWorkload
from loadtests.send.client import connection
from loadtests.send.client.recorder import Recorder
from tests.integration.loadtests import faulty
from tests.integration.loadtests.dispatching import dispatch

REQUESTS = 60
WORKLOAD = SyntheticWorkload(
    prompt_tokens=Lengths(mean=20), output_tokens=Lengths(mean=3), arrivals=Arrivals(process=ArrivalProcess.CONSTANT)
)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_step_of_the_wall_clock_changes_no_latency(
    step_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[int] = []
    real_ns = time.time_ns

    class SteppedTime:
        monotonic_ns = staticmethod(time.monotonic_ns)

        @staticmethod
        def time_ns() -> int:
            return real_ns() + (int(step_s * 1e9) if len(finished) >= REQUESTS // 2 else 0)

    monkeypatch.setattr(connection, "time", SteppedTime)
    with faulty.faulty_server(faulty.drip) as url:
        summary = dispatch(
            url,
            Recorder(tmp_path, 0, 1.0),
            tmp_path,
            WORKLOAD,
            rate_rps=float(REQUESTS),
            on_finish=lambda exchange: finished.append(exchange.index),
        )
    records = [json.loads(line) for line in (tmp_path / "records-0.jsonl").read_text().splitlines()]
    assert len(records) == summary["finished"] == REQUESTS
    assert all(record["error"] is None for record in records)
    assert all(0 < record["ttft_ms"] <= record["e2e_ms"] < 10_000 for record in records)
    assert isinstance(summary["kernel_stamps_share"], float)
    assert 0 < summary["kernel_stamps_share"] < 1  # the kernel's stamps before the step, none after it
