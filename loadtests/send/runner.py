"""Runs Locust as a child process and reads what it writes. Locust itself is never imported here.

A `Generator` is one Locust child (with its workers, if it has several processes) that serves any number of runs: its
start costs about two seconds, a run nothing beyond its schedule. The child ends with its control pipe, so no crash of
this process leaves one behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from controlplane.domain.errors import Unavailable
from controlplane.domain.report import RequestRecord
from controlplane.host.ports import free_port
from loadtests.measure.records import LineTail
from loadtests.send.plan import Plan

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
_POLL_S = 0.1
_START_S = 60.0  # importing Locust on a loaded machine
_STOP_S = 10.0


class Progress(NamedTuple):
    """What is known while a run goes on. Emulated seconds; records past the warm-up, in order of completion."""

    elapsed_s: float
    sent: int
    in_flight: int
    records: Sequence[RequestRecord]
    waiting_s: Sequence[float] = ()  # how long requests in flight have waited for a first token: the longest ones
    begun_s: Sequence[tuple[float, float]] = ()
    """Streams in flight: how long the first token took, how long ago the last one came: the longest silent ones."""


Watch = Callable[[Progress], str | None]


class Finished(NamedTuple):
    """What the generator said at the end of a run."""

    summaries: tuple[dict[str, Any], ...]  # one per worker
    stopped: str | None


class WorkersElsewhere(NamedTuple):
    """Locust workers on other hosts, started there with `python -m locust -f loadtests/locustfile.py --worker
    --master-host HERE --master-port PORT`. Locust's protocol knows no keys: bind to an address only they can reach.
    """

    workers: int
    bind_host: str
    port: int


class Generator:
    """Raises Unavailable from `run` when the child dies, breaks or hangs; the next run starts a new one."""

    def __init__(
        self, *, processes: int = 1, elsewhere: WorkersElsewhere | None = None, python: str = sys.executable
    ) -> None:
        self._processes = elsewhere.workers if elsewhere else processes
        self._elsewhere = elsewhere
        self._python = python
        self._child: subprocess.Popen[bytes] | None = None
        self._control = -1
        self._scratch = tempfile.TemporaryDirectory(prefix="fleetune-load-")
        self._log = Path(self._scratch.name) / "locust.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start the child if it does not run; returns at once, before Locust is up."""
        if self._child is not None and self._child.poll() is None:
            return
        self._end_child()
        reader, self._control = os.pipe()
        try:
            self._child = self._spawn(reader)
        finally:
            os.close(reader)

    def run(self, plan: Plan, *, warmup_s: float, limit_s: float, watch: Watch | None = None) -> Finished:
        """Run one plan. `limit_s` is wall-clock time after which the generator counts as hung."""
        self.start()
        follower = _Follower(plan, warmup_s)
        self._tell({"run": plan.model_dump(mode="json")})
        try:
            return self._follow(plan, follower, watch, time.monotonic() + limit_s + _START_S)
        except BaseException:
            self._end_child()
            raise

    def close(self) -> None:
        """End the child and everything it started."""
        self._end_child()
        self._scratch.cleanup()

    def _spawn(self, reader: int) -> subprocess.Popen[bytes]:
        workers = str(self._processes)
        command = [self._python, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
        command += ["--users", workers, "--spawn-rate", workers, "--loglevel", "WARNING", "--exit-code-on-error", "0"]
        command += self._distribution(workers)
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(reader,),
                cwd=self._scratch.name,
                env=_environment(reader),
                start_new_session=True,
            )

    def _distribution(self, workers: str) -> list[str]:
        """Return Locust's options for one process, several here, or workers on other hosts."""
        if self._elsewhere is not None:
            bind = ["--master-bind-host", self._elsewhere.bind_host, "--master-bind-port", str(self._elsewhere.port)]
            return ["--master", "--expect-workers", workers, *bind]
        if self._processes == 1:
            return []
        port = str(free_port())
        bind = ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]
        return ["--processes", workers, *bind]

    def _tell(self, order: dict[str, Any]) -> None:
        try:
            os.write(self._control, json.dumps(order).encode() + b"\n")
        except BrokenPipeError as error:
            raise self._broke("it ended before the run") from error

    def _follow(self, plan: Plan, follower: _Follower, watch: Watch | None, deadline: float) -> Finished:
        stopped: str | None = None
        while not follower.over():
            self._check(deadline)
            progress = follower.progress(with_records=watch is not None)
            if watch is not None and progress is not None and stopped is None:
                stopped = watch(progress)
                if stopped is not None:
                    self._tell({"stop": stopped})
                    drain_s = plan.timeouts.total_s if plan.drain_on_stop else 0.0
                    deadline = time.monotonic() + _STOP_S + drain_s
            time.sleep(_POLL_S)
        return Finished(follower.summaries(), stopped)

    def _check(self, deadline: float) -> None:
        assert self._child is not None
        if self._child.poll() is not None:
            raise self._broke(f"it exited with {self._child.returncode}")
        if time.monotonic() > deadline:
            raise self._broke("it did not finish in time")

    def _broke(self, why: str) -> Unavailable:
        tail = self._log.read_text(errors="replace").strip().splitlines()[-3:] if self._log.exists() else []
        return Unavailable("the load generator broke", why="; ".join([why, *tail]))

    def _end_child(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        child, self._child = self._child, None
        if child is not None:
            _kill_group(child)


class _Follower:
    """Reads the files of one run as they grow."""

    def __init__(self, plan: Plan, warmup_s: float) -> None:
        out = Path(plan.out_dir)
        workers = range(plan.workers)
        self._warmup_s = warmup_s
        self._records = [LineTail(out / f"records-{each}.jsonl") for each in workers]
        self._status = [LineTail(out / f"status-{each}.jsonl") for each in workers]
        self._summaries = [out / f"summary-{each}.json" for each in workers]
        self._latest: dict[int, dict[str, Any]] = {}
        self._seen: list[RequestRecord] = []

    def over(self) -> bool:
        return all(path.exists() for path in self._summaries)

    def summaries(self) -> tuple[dict[str, Any], ...]:
        return tuple(json.loads(path.read_text()) for path in self._summaries)

    def progress(self, *, with_records: bool) -> Progress | None:
        """Return what is known, None before the first status line."""
        for worker, tail in enumerate(self._status):
            for line in tail.read()[-1:]:
                self._latest[worker] = json.loads(line)
        if with_records:
            self._seen += [
                record for tail in self._records for record in map(_record, tail.read()) if self._counts(record)
            ]
        latest = self._latest.values()
        if not latest:
            return None
        elapsed_s = max(0.0, *(each["elapsed_s"] for each in latest))
        waiting = [each for status in latest for each in status["waiting_s"]]
        begun = [(first_s, silent_s) for status in latest for first_s, silent_s in status["begun_s"]]
        return Progress(elapsed_s, _total(latest, "sent"), _total(latest, "in_flight"), self._seen, waiting, begun)

    def _counts(self, record: RequestRecord) -> bool:
        return record.scheduled_s >= self._warmup_s


def _record(line: bytes) -> RequestRecord:
    return RequestRecord.model_validate_json(line)


def _total(statuses: Any, name: str) -> int:
    return sum(each[name] for each in statuses)


def _environment(reader: int) -> dict[str, str]:
    """The child's environment: no stray LOCUST_ options, this project importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    root = str(LOCUSTFILE.parent.parent)
    path = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    return kept | {"FLEETUNE_LOAD_CONTROL_FD": str(reader), "PYTHONPATH": path}


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End a child and its group: politely, then not. The group outlives its leader while workers run."""
    for number, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    child.wait()
