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
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import gevent
import numpy as np
from gevent.event import AsyncResult
from gevent.fileobject import FileObjectPosix
from gevent.monkey import get_original
from gevent.queue import Queue
from locust import User, events, task
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from loadtests.measure.host import HostProcess
from loadtests.send.client.conductor import Conductor
from loadtests.send.client.connection import resolve, trust
from loadtests.send.client.dispatcher import Dispatcher
from loadtests.send.client.exchange import Exchange
from loadtests.send.client.recorder import Recorder
from loadtests.send.client.share import Share
from loadtests.send.client.shipping import ship
from loadtests.send.client.waiter import Waiter
from loadtests.send.client.wire import RequestWriter
from loadtests.send.plan import Plan, parse_target
from loadtests.send.schedule import Schedule

CONTROL_FD = "FLEETUNE_LOAD_CONTROL_FD"
_LEAD_S = 0.1  # to open the first connections
_CLOCKS_S = 0.05  # how far a worker's clock may be behind its master's


class RequestFailed(Exception):
    """What Locust shows for a failed request: the class of the failure."""


class Begin(NamedTuple):
    """When to begin, as a worker was told: seconds of the wall clock's epoch."""

    start_at: float
    told_at: float
    lead_s: float


class Job:
    """One plan for this process; as one of several workers it begins with the others, at the instant they are told."""

    def __init__(self, plan: Plan, worker: int = 0, run: int | None = None, schedule: bytes | None = None) -> None:
        self.plan, self.worker, self.run, self.schedule = plan, worker, run, schedule
        self.begin: AsyncResult[Begin | None] = AsyncResult()  # None: the run was stopped before


_jobs: Queue[Job] = Queue()
_running: dict[Dispatcher, Job] = {}


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
        _running[dispatcher] = job
        gc.collect()
        gc.disable()  # exchanges hold no cycles; a collection in the run would be lag
        try:
            begin = self._agreed(job)
            dispatcher.prepare(spare=_spare(job.plan, schedule))
            return dispatcher.run(_start_ns(begin))
        finally:
            gc.enable()
            waiter.close()
            del _running[dispatcher]

    def _agreed(self, job: Job) -> Begin | None:
        """Say that the share is here, and wait for the instant at which all workers begin."""
        if job.run is None:
            return None
        self.environment.runner.send_message("fleetune_ready", {"run": job.run, "worker": job.worker})
        begin: Begin | None = job.begin.get()
        if begin is not None:
            _require_same_time(begin)
        return begin

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


def _require_same_time(begin: Begin) -> None:
    """Workers begin at an instant of the wall clock: one whose clock differs would send out of turn."""
    lead_s = begin.start_at - begin.told_at
    if not 0 <= lead_s <= begin.lead_s + _CLOCKS_S:
        said = f"it was told to begin in {lead_s:.2f} s instead of {begin.lead_s:g}"
        raise RuntimeError(f"{said}: its clock or the network is off")


def _start_ns(begin: Begin | None) -> int:
    if begin is None:
        return time.monotonic_ns() + int(_LEAD_S * 1e9)
    return time.monotonic_ns() + int((begin.start_at - time.time()) * 1e9)


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
    if isinstance(runner, WorkerRunner):
        for kind, heed in (("run", _on_run), ("begin", _on_begin), ("stop", _on_stop)):
            runner.register_message(f"fleetune_{kind}", heed)
        return
    conductor = _conductor(runner) if isinstance(runner, MasterRunner) else None
    if CONTROL_FD in os.environ:
        gevent.spawn(_obey, environment, conductor, int(os.environ[CONTROL_FD]))
    elif environment.parsed_options and environment.parsed_options.fleetune_plan:
        gevent.spawn(_start, conductor, _read_plan(environment.parsed_options.fleetune_plan))
    elif any(getattr(each, "run_jobs", None) is OpenLoopUser.run_jobs for each in environment.user_classes):
        raise SystemExit(f"error: nothing to send: {_NEEDED}")


_NEEDED = "give --fleetune-plan FILE, as `fleetune load plan -f PROFILE --target URL --out FOLDER` writes it"


def _read_plan(path: str) -> Plan:
    """Return the plan in a file. What is wrong with it ends Locust: an exception would be logged, and nothing sent."""
    try:
        return Plan.model_validate_json(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: no plan in {path}: {error}\n{_NEEDED}") from error


def _conductor(runner: MasterRunner) -> Conductor:
    conductor = Conductor(runner, lambda: sorted(each.id for each in runner.clients.all if each.state != STATE_MISSING))
    runner.register_message("fleetune_ready", lambda environment, msg: conductor.on_ready(msg.data))
    runner.register_message("fleetune_file", lambda environment, msg: conductor.on_file(msg.data))
    return conductor


def _obey(environment: Environment, conductor: Conductor | None, fd: int) -> None:
    """Do as the parent says until it goes away."""
    for line in FileObjectPosix(fd, "rb"):
        order = json.loads(line)
        if "run" in order:
            _start(conductor, Plan.model_validate(order["run"]))
        elif conductor is not None:
            conductor.stop(order["stop"])
        else:
            _stop(order["stop"])
    assert environment.runner is not None
    environment.runner.quit()


def _start(conductor: Conductor | None, plan: Plan) -> None:
    if conductor is None:
        _jobs.put(Job(plan))
    else:
        conductor.conduct(plan)


def _stop(reason: str) -> None:
    for dispatcher, job in _running.items():
        dispatcher.stop_reason = reason
        if not job.begin.ready():
            job.begin.set(None)


def _on_run(environment: Environment, msg: Any, **_: Any) -> None:
    order = msg.data
    job = Job(Plan.model_validate_json(order["plan"]), order["worker"], order["run"], order["schedule"])
    ours = (each for each in environment.user_classes if issubclass(each, OpenLoopUser))
    user = next(
        ours, OpenLoopUser
    )  # one of our own: where Locust's master puts its users depends on when it hears of us
    gevent.spawn(user(environment).run_job, job)


def _on_begin(environment: Environment, msg: Any, **_: Any) -> None:
    begin = Begin(msg.data["start_at"], time.time(), msg.data["lead_s"])
    for job in _running.values():
        job.begin.set(begin)


def _on_stop(environment: Environment, msg: Any, **_: Any) -> None:
    _stop(msg.data["reason"])
