"""Somebody sets the wall clock in the middle of a run: latencies stay what they were."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from controlplane.domain.workload import ArrivalProcess, Arrivals, Lengths, SyntheticWorkload
from loadtests.client import connection
from loadtests.client.connection import resolve
from loadtests.client.dispatcher import Dispatcher, Share
from loadtests.client.exchange import Exchange
from loadtests.client.recorder import Recorder
from loadtests.client.wire import RequestWriter
from loadtests.plan import Plan, parse_target
from loadtests.schedule import build_schedule
from tests.integration.loadtests import faulty

REQUESTS = 60
WORKLOAD = SyntheticWorkload(
    prompt_tokens=Lengths(mean=20), output_tokens=Lengths(mean=3), arrivals=Arrivals(process=ArrivalProcess.CONSTANT)
)


def dispatch(url: str, out_dir: Path, on_finish: Callable[[Exchange], None]) -> dict[str, object]:
    """Run the dispatcher in this process, so that its clock can be stepped."""
    schedule = build_schedule(WORKLOAD, rate_rps=float(REQUESTS), duration_s=1.0, seed=1)
    schedule.save(out_dir / "schedule.npz")
    plan = Plan(url=url, model="m", out_dir=str(out_dir), schedule_path=str(out_dir / "schedule.npz"))
    target = parse_target(url)
    recorder = Recorder(out_dir, 0, 1.0)
    dispatcher = Dispatcher(
        Share(plan, schedule, np.arange(len(schedule))),
        writer=RequestWriter(plan, target, schedule),
        address=resolve(target, None),
        recorder=recorder,
        poller=select.epoll(),
        wait=lambda fd: void(select.select([fd], [], [])),
        nap=time.sleep,
        on_finish=on_finish,
    )
    summary = dispatcher.run(time.monotonic_ns() + 50_000_000)
    recorder.close(summary)
    return summary


def void(_: object) -> None:
    """Forget a value."""


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
        summary = dispatch(url, tmp_path, lambda exchange: finished.append(exchange.index))
    records = [json.loads(line) for line in (tmp_path / "records-0.jsonl").read_text().splitlines()]
    assert len(records) == summary["finished"] == REQUESTS
    assert all(record["error"] is None for record in records)
    assert all(0 < record["ttft_ms"] <= record["e2e_ms"] < 10_000 for record in records)
    assert isinstance(summary["kernel_stamps_share"], float)
    assert 0 < summary["kernel_stamps_share"] < 1  # the kernel's stamps before the step, none after it
