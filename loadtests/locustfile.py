"""The only door to Locust. Run as a child process (`python -m locust -f loadtests/locustfile.py`), never imported by
Fleetune's processes: Locust lets gevent patch the whole process.

Plans come one per line down a pipe whose number stands in FLEETUNE_LOAD_CONTROL_FD, so that one Locust start serves
many runs; when the pipe ends, so does Locust. Without the pipe, `--fleetune-plan FILE` runs one plan, also under
Locust's web UI. Requests fire Locust's `request` event: its statistics, web UI, `--processes`, master and workers and
users' own locustfiles (subclass `OpenLoopUser`) work as ever.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from gevent.fileobject import FileObjectPosix
from gevent.monkey import get_original
from gevent.queue import Queue
from locust import User, events, task
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from loadtests.measure.host import HostProcess
from loadtests.send.client.connection import resolve, trust
from loadtests.send.client.dispatcher import Dispatcher
from loadtests.send.client.exchange import Exchange
from loadtests.send.client.recorder import Recorder
from loadtests.send.client.share import Share
from loadtests.send.client.shipping import keep, ship
from loadtests.send.client.waiter import Waiter
from loadtests.send.client.wire import RequestWriter
from loadtests.send.plan import Plan, parse_target
from loadtests.send.schedule import Schedule

CONTROL_FD = "FLEETUNE_LOAD_CONTROL_FD"
_LEAD_S = 0.1  # to open the first connections
_LEAD_WORKERS_S = 1.0  # for the word to reach every worker
_LEAD_ELSEWHERE_S = 2.0  # for the schedule too, and a look at the host
_BEGIN_S = 30.0  # within which a worker says that it sends
_CLOCKS_S = 0.05  # how far a worker's clock may be behind its master's
_log = logging.getLogger(__name__)


class RequestFailed(Exception):
    """What Locust shows for a failed request: the class of the failure."""


class Job:
    """One plan for this process, with the instant it starts (seconds of the wall clock's epoch)."""

    def __init__(self, plan: Plan, worker: int, start_at: float | None, schedule: bytes | None = None) -> None:
        self.plan, self.worker, self.start_at, self.schedule = plan, worker, start_at, schedule
        self.told_at = time.time()


_jobs: Queue[Job] = Queue()
_running: list[Dispatcher] = []
_shipped: deque[Path] = deque(maxlen=1)  # where what workers elsewhere send home is kept, in their master


class OpenLoopUser(User):
    """One per process. Not a person clicking: it sends a whole schedule, never waiting for answers."""

    @task
    def run_jobs(self) -> None:
        """Run the next job that comes."""
        self.run_job(_jobs.get())

    def run_job(self, job: Job) -> None:
        """Run one plan to its end and write its files; send them to the master when it is elsewhere."""
        if job.schedule is None:
            self._run_here(job)
            return
        with tempfile.TemporaryDirectory(prefix="fleetune-worker-") as folder:
            path = Path(folder) / "schedule.npz"
            path.write_bytes(job.schedule)
            job.plan = job.plan.evolve(out_dir=folder, schedule_path=str(path))
            shipping = gevent.spawn(ship, self.environment.runner, Path(folder), job.worker)
            try:
                with HostProcess() as host:
                    self._run_here(job, host)
            finally:
                shipping.join()  # what broke is said at home too

    def _run_here(self, job: Job, host: HostProcess | None = None) -> None:
        recorder = Recorder(Path(job.plan.out_dir), job.worker, job.plan.time_lapse)
        try:
            _require_same_time(job)
            summary = self._measure(job, recorder)
            if host is not None:
                summary["host"] = host.seen()._asdict()
        except BaseException as error:
            recorder.close({"broken": f"{type(error).__name__}: {error}"})
            raise
        recorder.close(summary)

    def _measure(self, job: Job, recorder: Recorder) -> dict[str, object]:
        if job.plan.cores:
            os.sched_setaffinity(0, {job.plan.cores[job.worker]})
        schedule = Schedule.load(Path(job.plan.schedule_path))
        waiter = Waiter()
        dispatcher = self._dispatcher(job, schedule, recorder, waiter)
        _running.append(dispatcher)
        gc.collect()
        gc.disable()  # exchanges hold no cycles; a collection in the run would be lag
        try:
            dispatcher.prepare(spare=_spare(job.plan, schedule))
            return dispatcher.run(_start_ns(job))
        finally:
            gc.enable()
            waiter.close()
            _running.remove(dispatcher)

    def _dispatcher(self, job: Job, schedule: Schedule, recorder: Recorder, waiter: Waiter) -> Dispatcher:
        target = parse_target(job.plan.url)
        return Dispatcher(
            Share(job.plan, schedule, np.arange(job.worker, len(schedule), job.plan.workers)),
            writer=RequestWriter(job.plan, target, schedule),
            address=resolve(target, trust(target, job.plan.ca_file)),
            recorder=recorder,
            poller=get_original("select", "epoll")(),
            wait=waiter.wait,
            nap=waiter.nap,
            on_finish=lambda exchange: self._fire(job.plan, exchange),
        )

    def _fire(self, plan: Plan, exchange: Exchange) -> None:
        self.environment.events.request.fire(
            request_type="POST",
            name=plan.api.path,
            response_time=(exchange.finished_ns - exchange.scheduled_ns) * plan.time_lapse / 1e6,
            response_length=exchange.received_bytes,
            exception=RequestFailed(exchange.error) if exchange.error else None,
            context={},
        )


def _spare(plan: Plan, schedule: Schedule) -> int:
    """Connections to hold open in advance: a tenth of a second's arrivals, within sense."""
    wall_s = (float(schedule.scheduled_s[-1]) if len(schedule) else 0.0) / plan.time_lapse
    rate = len(schedule) / plan.workers / wall_s if wall_s > 0 else 1.0
    return int(min(128, max(8, rate / 10)))


def _require_same_time(job: Job) -> None:
    """Workers elsewhere begin at an instant of the wall clock: one whose clock differs would send out of turn."""
    if job.schedule is None or job.start_at is None:
        return
    lead_s = job.start_at - job.told_at
    if not 0 <= lead_s <= _LEAD_ELSEWHERE_S + _CLOCKS_S:
        said = f"it was told to begin in {lead_s:.2f} s instead of {_LEAD_ELSEWHERE_S:g}"
        raise RuntimeError(f"{said}: its clock or the network is off")


def _start_ns(job: Job) -> int:
    if job.start_at is None:
        return time.monotonic_ns() + int(_LEAD_S * 1e9)
    return time.monotonic_ns() + int((job.start_at - time.time()) * 1e9)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # Locust has no types here
def _add_options(parser: Any) -> None:
    parser.add_argument("--fleetune-plan", default="", help="JSON file with one Fleetune load plan to run")


def _go_first() -> None:
    """Ask to be scheduled before others: a late generator measures itself. Only where the user may."""
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    with contextlib.suppress(OSError):  # where sessions are scheduled as groups, the group's niceness is what counts
        Path("/proc/self/autogroup").write_text("-10")


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust has no types here
def _connect(environment: Environment, **_: Any) -> None:
    _go_first()
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        runner.register_message("fleetune_file", _on_file)
    if isinstance(runner, WorkerRunner):
        runner.register_message("fleetune_run", _on_run)
        runner.register_message("fleetune_stop", _on_stop)
        return
    if CONTROL_FD in os.environ:
        gevent.spawn(_obey, environment, int(os.environ[CONTROL_FD]))
    elif environment.parsed_options and environment.parsed_options.fleetune_plan:
        gevent.spawn(_start, environment, _read_plan(environment.parsed_options.fleetune_plan))
    elif any(getattr(each, "run_jobs", None) is OpenLoopUser.run_jobs for each in environment.user_classes):
        raise SystemExit(f"error: nothing to send: {_NEEDED}")


_NEEDED = "give --fleetune-plan FILE, as `fleetune load plan -f PROFILE --target URL --out FOLDER` writes it"


def _read_plan(path: str) -> Plan:
    """Return the plan in a file. What is wrong with it ends Locust: an exception would be logged, and nothing sent."""
    try:
        return Plan.model_validate_json(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: no plan in {path}: {error}\n{_NEEDED}") from error


def _obey(environment: Environment, fd: int) -> None:
    """Do as the parent says until it goes away."""
    for line in FileObjectPosix(fd, "rb"):
        order = json.loads(line)
        if "run" in order:
            _start(environment, Plan.model_validate(order["run"]))
        else:
            _stop(environment, order["stop"])
    assert environment.runner is not None
    environment.runner.quit()


def _start(environment: Environment, plan: Plan) -> None:
    runner = environment.runner
    if not isinstance(runner, MasterRunner):
        _jobs.put(Job(plan, 0, None))
        return
    while len(there := _there(runner)) < plan.workers:
        gevent.sleep(0.05)
    start_at = time.time() + (_LEAD_ELSEWHERE_S if plan.ship else _LEAD_WORKERS_S)
    schedule = Path(plan.schedule_path).read_bytes() if plan.ship else None
    _shipped.append(Path(plan.out_dir))
    sharing = dict(enumerate(there[: plan.workers]))
    for number, client_id in sharing.items():
        order = {"plan": plan.model_dump_json(), "worker": number, "start_at": start_at, "schedule": schedule}
        runner.send_message("fleetune_run", order, client_id=client_id)
    begun_by_s = time.monotonic() + (start_at - time.time()) + _BEGIN_S
    gevent.spawn(_guard, environment, plan, sharing, begun_by_s)


def _there(runner: MasterRunner) -> list[str]:
    return sorted(each.id for each in runner.clients.all if each.state != STATE_MISSING)


def _guard(environment: Environment, plan: Plan, sharing: dict[int, str], begun_by_s: float) -> None:
    """Watch that every worker begins and ends its share. A lost one's is said to be broken, and the others stopped."""
    runner = environment.runner
    assert isinstance(runner, MasterRunner)
    waiting = dict(sharing)
    while waiting:
        gevent.sleep(0.2)
        for number, client_id in list(waiting.items()):
            summary = Path(plan.out_dir) / f"summary-{number}.json"
            if summary.exists():
                del waiting[number]
            elif client_id not in _there(runner) or (time.monotonic() > begun_by_s and not _has_begun(plan, number)):
                summary.write_text(json.dumps({"broken": f"worker {number} was lost"}))
                _stop(environment, "a worker was lost")


def _has_begun(plan: Plan, number: int) -> bool:
    return (Path(plan.out_dir) / f"status-{number}.jsonl").exists()


def _on_file(environment: Environment, msg: Any, **_: Any) -> None:
    keep(_shipped[-1], msg.data)


def _stop(environment: Environment, reason: str) -> None:
    if isinstance(environment.runner, MasterRunner):
        environment.runner.send_message("fleetune_stop", {"reason": reason})
    for dispatcher in _running:
        dispatcher.stop_reason = reason


def _on_run(environment: Environment, msg: Any, **_: Any) -> None:
    order = msg.data
    job = Job(Plan.model_validate_json(order["plan"]), order["worker"], order["start_at"], order["schedule"])
    if job.schedule is None:
        _jobs.put(job)
    else:  # whether the master thinks that a user runs here depends on when it heard of us
        gevent.spawn(OpenLoopUser(environment).run_job, job)


def _on_stop(environment: Environment, msg: Any, **_: Any) -> None:
    for dispatcher in _running:
        dispatcher.stop_reason = msg.data["reason"]
