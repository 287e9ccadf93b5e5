"""The dispatcher in the test's own process, where a test can step its clock or see when others get their turn."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from controlplane.domain.workload import Workload
from loadtests.send.client.connection import resolve
from loadtests.send.client.dispatcher import Dispatcher
from loadtests.send.client.exchange import Exchange
from loadtests.send.client.recorder import Recorder
from loadtests.send.client.share import Share
from loadtests.send.client.wire import RequestWriter
from loadtests.send.plan import Plan, parse_target
from loadtests.send.schedule import build_schedule


def wait_for(fd: int) -> None:
    """Wait until a descriptor is readable."""
    select.select([fd], [], [])


def forget(_: Exchange) -> None:
    """Do nothing with a finished request."""


def dispatch(
    url: str,
    recorder: Recorder,
    out_dir: Path,
    workload: Workload,
    *,
    rate_rps: float,
    wait: Callable[[int], None] = wait_for,
    on_finish: Callable[[Exchange], None] = forget,
) -> dict[str, object]:
    """Send a second of a workload and return the summary."""
    schedule = build_schedule(workload, rate_rps=rate_rps, duration_s=1.0, seed=1)
    schedule.save(out_dir / "schedule.npz")
    plan = Plan(url=url, model="m", out_dir=str(out_dir), schedule_path=str(out_dir / "schedule.npz"))
    target = parse_target(url)
    dispatcher = Dispatcher(
        Share(plan, schedule, np.arange(len(schedule))),
        writer=RequestWriter(plan, target, schedule),
        address=resolve(target, None),
        recorder=recorder,
        poller=select.epoll(),
        wait=wait,
        nap=time.sleep,
        on_finish=on_finish,
    )
    summary = dispatcher.run(time.monotonic_ns() + 50_000_000)
    recorder.close(summary)
    return summary
