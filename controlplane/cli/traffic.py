"""Live traffic for the demo and for drills: a trace replayed through the gateway until told to stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.domain.errors import FleetuneError
from controlplane.domain.report import LoadTestReport
from controlplane.domain.workload import Workload

if TYPE_CHECKING:
    from loadtests.send.runner import Progress

LONGEST_S = 3600.0


@dataclass(frozen=True)
class Traffic:
    """What to send. The rate is in engine time: a time-lapse of 3 sends three times as fast."""

    workload: Workload
    rate_rps: float
    url: str
    model: str
    time_lapse: float
    api_key: str | None = None


class LiveTraffic:
    """Sends until `stop`, which waits for the answers under way. A thread of ours runs Locust as a child process."""

    def __init__(self, traffic: Traffic, out_dir: Path) -> None:
        self._traffic = traffic
        self._out_dir = out_dir
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-traffic", daemon=True)
        self._report: LoadTestReport | None = None
        self._error: FleetuneError | None = None
        self.latest: Progress | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> LoadTestReport:
        """Stop sending, wait for what is under way, and return the report. Raises what ended the traffic early."""
        self._stopping.set()
        self._thread.join()
        if self._report is None:
            raise self._error or RuntimeError("the traffic thread ended without a report")
        return self._report

    def _run(self) -> None:
        from loadtests.loadtest import LoadTest, run_load_test
        from loadtests.send.runner import Generator

        traffic = self._traffic
        test = LoadTest(
            workload=traffic.workload,
            rate_rps=traffic.rate_rps,
            url=traffic.url,
            model=traffic.model,
            duration_s=LONGEST_S,
            time_lapse=traffic.time_lapse,
            api_key=traffic.api_key,
            drain_on_stop=True,
        )
        try:
            with Generator() as generator:
                self._report = run_load_test(test, generator, out_dir=self._out_dir, watch=self._look).report
        except FleetuneError as error:
            self._error = error

    def _look(self, progress: Progress) -> str | None:
        self.latest = progress
        return "told to stop" if self._stopping.is_set() else None
