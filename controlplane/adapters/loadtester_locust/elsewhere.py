"""Locust's master as a child of this process, its workers on other hosts: as many as a level needs.

The schedule goes out and the records come home over Locust's own connection (decision 50). Hosts are asked for at the
first level, kept for the next ones, and asked for anew when a level needs more of them or was spoiled by them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from controlplane.adapters.loadtester_locust.here import LocustLoadTester
from controlplane.adapters.loadtester_locust.level import load_test_of, watched
from controlplane.domain.load_pods import LoadRate
from controlplane.domain.report import LoadTestReport, Validity
from controlplane.host.ports import free_port
from controlplane.ports.load import GeneratorHosts, LoadProgress, LoadRequest, LoadResult, Watch
from loadtests.loadtest import run_load_test
from loadtests.report.report import MAX_CPU_PERCENT
from loadtests.send.plan import parse_target
from loadtests.send.runner import Generator, WorkersElsewhere
from loadtests.send.schedule import Schedule, build_schedule

_OURS = ("127.0.0.1", "::1", "localhost")


class _Held(NamedTuple):
    processes: int
    generator: Generator


class LoadTesterElsewhere:
    """Use as a context manager, or call `close`. `needed` says how many processes a rate takes; `address` is where they
    find this process. What listens on this host's loopback is loaded from `here`. Not for two threads at once.
    """

    def __init__(
        self, hosts: GeneratorHosts, *, needed: Callable[[LoadRate], int], address: str, here: LocustLoadTester
    ) -> None:
        self._hosts, self._needed, self._address, self._here = hosts, needed, address, here
        self._held: _Held | None = None
        self._times = 1  # as many processes as are needed by the figures, so many times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        """See `ports.LoadTester.run`. The first level of many waits for its hosts."""
        if parse_target(request.url).host in _OURS:
            return self._here.run(request, out_dir=out_dir, watch=watch)
        total_s = request.warmup_s + request.duration_s
        schedule = build_schedule(request.workload, rate_rps=request.rate_rps, duration_s=total_s, seed=request.seed)
        try:
            held = self._hold(self._times * self._needed(rate_of(schedule, request)), watch)
            test = load_test_of(request, processes=held.processes, ship=True)
            result = run_load_test(test, held.generator, out_dir=out_dir, watch=watched(watch), schedule=schedule)
        except BaseException:
            self.rest()
            raise
        self._learn(result.report)
        return LoadResult(result.report, result.records_path)

    def rest(self) -> None:
        """Let go of the hosts and of what connects them."""
        if self._held is not None:
            self._held.generator.close()
            self._held = None
            self._hosts.release()

    def close(self) -> None:
        self.rest()
        self._here.close()

    def _hold(self, processes: int, watch: Watch | None) -> _Held:
        if self._held is not None and self._held.processes >= processes:
            return self._held
        self.rest()
        port = free_port()
        self._held = _Held(processes, Generator(elsewhere=WorkersElsewhere(processes, self._address, port)))
        self._held.generator.start()
        self._hosts.hold(processes, port=port, check=lambda: _look(watch))
        return self._held

    def _learn(self, report: LoadTestReport) -> None:
        """A level that its generators spoiled is loaded again by others, and by more where they had too much to do."""
        if report.validity is Validity.VALID:
            return
        self.rest()
        if (report.generator_cpu_percent or 0.0) > MAX_CPU_PERCENT:
            self._times += 1


def rate_of(schedule: Schedule, request: LoadRequest) -> LoadRate:
    """Return what a schedule asks of its generators per second of the wall clock."""
    lapse = request.time_lapse / (request.warmup_s + request.duration_s)
    return LoadRate(len(schedule) * lapse, float(schedule.output_tokens.sum()) * lapse)


def _look(watch: Watch | None) -> None:
    """Let whoever watches a level end it while its hosts come up."""
    if watch is not None:
        watch(LoadProgress(0.0, 0, 0, ()))
