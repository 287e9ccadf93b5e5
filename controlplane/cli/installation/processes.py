"""`fleetune process ...`: the entry points of the supervised processes. Not for people; `fleetune up` runs them."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from controlplane import settings as installation
from controlplane.cli.errors import plain_errors
from controlplane.cli.installation import pods
from controlplane.cli.installation.compiling import compile_unless_stopped
from controlplane.cli.installation.stopping import stop_event
from controlplane.domain.base import StudyId
from controlplane.domain.errors import Conflict, Deposed
from controlplane.host.locks import alone
from controlplane.host.passes import Passes
from controlplane.ports.gateways import RecordFeed
from controlplane.settings import Settings
from controlplane.telemetry import logs, tracing
from controlplane.telemetry.lasting import Lasting
from controlplane.wiring import beside, control, http_api, work
from controlplane.wiring.shared import Shared
from controlplane.worker import Bell, repeat

CONTROLLER_EVERY_S = 0.5
WORKER_EVERY_S = 1.0
ANSWERS_EVERY_S = MATCHER_EVERY_S = 1.0
ADAPTERS_EVERY_S = 5.0
CATALOGUE_EVERY_S = 2.0
JUDGING_EVERY_S = 1.0
TURNS_EVERY_S = 0.25  # requests are held meanwhile
WARM_EVERY_S = 0.5  # a held request may wait for one to wake
RECLAIMS_EVERY_S = 1.0  # of thirty seconds that a cloud may give
HELD_EVERY_S = 0.5  # after one was held; else the gateways are asked all the time, and answer when there is one
SCRAPE_EVERY_S = 15.0
NOTIFY_EVERY_S = 5.0
WAIT_FOR_OTHER_S = 1.0
LEAD_LOOK_S = 1.0
_COLLECT_AFTER = (700, 10, 10)
"""Python's own: what lives for days must not pile garbage up, as a short command may."""
LOST_LEAD = 3
"""The exit code of a controller that another one took over from."""

log = logging.getLogger(__name__)

app = typer.Typer(hidden=True, help="Entry points of the supervised processes.")
app.add_typer(pods.app)
DataDir = Annotated[Path, typer.Option(help="Where the installation lives.")]
LogFile = Annotated[Path | None, typer.Option(help="Log there, rotated; without it to stderr.")]


@app.command()
@plain_errors
def api(data_dir: DataDir, log_file: LogFile = None) -> None:
    """Serve the API."""
    import uvicorn

    settings = installation.load(data_dir)
    with _telling("api", log_file):
        app, listen = http_api.build_app(settings), (settings.host, settings.api_port)
        uvicorn.run(app, host=listen[0], port=listen[1], log_config=None, log_level="warning", access_log=False)


@app.command()
@plain_errors
def controller(data_dir: DataDir, log_file: LogFile = None) -> None:
    """Reconcile fleets, rollouts and schedules, a pass every half second; beside it load a canary and let it answer."""
    stop, settings = stop_event(), installation.load(data_dir)
    with _telling("controller", log_file):
        lasting = Lasting(log)
        while not stop.is_set():
            try:
                with _the_only_one(settings):
                    _control(settings, stop)
            except Conflict as error:  # of a supervisor that was killed: it ends on its own
                lasting.tell([f"{error}; waiting for its end"])
                stop.wait(WAIT_FOR_OTHER_S)


def _the_only_one(settings: Settings) -> AbstractContextManager[None]:
    """On a cluster a Lease says who acts; a folder that pods of several nodes share could not."""
    if settings.cluster is not None:
        return nullcontext()
    return alone(settings.data_dir / "controller.lock", what="another controller acts on this folder")


def _control(settings: Settings, stop: threading.Event) -> None:
    with leading(settings, stop, end=_end) as leader:
        if stop.is_set():
            return
        shared, records, bell = Shared(settings), control.record_feed(settings), Bell()
        for duty in duties(settings, shared, records, stop, bell, leader=leader):
            _beside(duty, stop)
        one_pass = control.controller_pass(settings, shared, records, leader=leader, bell=bell)
        passes = Passes(settings.data_dir)
        passes.done()
        repeat(_or_end(passes.noting(one_pass)), every_s=CONTROLLER_EVERY_S, stop=stop, bell=bell)


class Duty(NamedTuple):
    """What is done again and again beside the controller's pass."""

    name: str
    one_pass: Callable[[], bool]
    every_s: float


def duties(
    settings: Settings, shared: Shared, records: RecordFeed, stop: threading.Event, bell: Bell, *, leader: int | None
) -> Sequence[Duty]:
    """Return the passes beside the controller's; `bell` is rung for it when a request is held at a gateway."""
    return [
        Duty("load", beside.load_matcher_pass(settings, shared, records, stop, leader=leader), MATCHER_EVERY_S),
        Duty("answers", beside.answers_pass(settings, shared, leader=leader), ANSWERS_EVERY_S),
        Duty("watch", beside.watch_pass(settings, shared, records, leader=leader), SCRAPE_EVERY_S),
        Duty("notify", beside.notify_pass(settings, leader=leader), NOTIFY_EVERY_S),
        Duty("adapters", beside.adapter_pass(settings, shared, records, leader=leader), ADAPTERS_EVERY_S),
        Duty("judging", beside.judging_pass(settings, shared, leader=leader), JUDGING_EVERY_S),
        Duty("catalogue", beside.catalogue_pass(settings, leader=leader), CATALOGUE_EVERY_S),
        Duty("warm", beside.warm_pass(settings, shared, leader=leader), WARM_EVERY_S),
        Duty("turns", beside.turns_pass(settings, shared, leader=leader), TURNS_EVERY_S),
        Duty("reclaims", beside.reclaims_pass(settings, shared, leader=leader), RECLAIMS_EVERY_S),
        Duty("held", beside.held_pass(settings, shared, bell), HELD_EVERY_S),
        Duty("metrics", beside.scraper_pass(settings, shared), SCRAPE_EVERY_S),
    ]


def _beside(duty: Duty, stop: threading.Event) -> None:
    """Repeat a pass in a daemon: were it stuck in a load test, the process could end nevertheless."""
    loop = {"every_s": duty.every_s, "stop": stop}
    threading.Thread(target=repeat, args=[_or_end(duty.one_pass)], kwargs=loop, name=duty.name, daemon=True).start()


@contextmanager
def leading(settings: Settings, stop: threading.Event, *, end: Callable[[str], None]) -> Iterator[int | None]:
    """Wait for the lead of an installation on a cluster, or for `stop`; gives its number, None on one host.

    The lead is given back at the end. When it is lost meanwhile, `end` is called.
    """
    if settings.cluster is None:
        yield None
        return
    election = control.leader_election(settings, settings.cluster, on_end=end)
    threading.Thread(target=election.run, name="lease", daemon=True).start()
    lasting = Lasting(log)
    try:
        while not stop.is_set() and not election.wait(LEAD_LOOK_S):
            lasting.tell([] if election.problem is None else [f"no lead yet: {election.problem}"])
        yield None if stop.is_set() else control.leader_number(settings)
    finally:
        election.stop()


def _or_end(one_pass: Callable[[], bool]) -> Callable[[], bool]:
    def one() -> bool:
        try:
            return one_pass()
        except Deposed as error:
            _end(str(error))
            return False

    return one


def _end(why: str) -> None:
    """End at once: what any thread of it still did would be done beside the next controller."""
    log.error("the lead is lost: %s; this process ends", why)
    logging.shutdown()
    os._exit(LOST_LEAD)


@app.command()
@plain_errors
def worker(data_dir: DataDir, name: str = "worker", study: str | None = None, log_file: LogFile = None) -> None:
    """Claim studies and run their trials; with --study help with that one, as long as the process that asked lives.

    The twin is compiled first where it is not: within a study that would be minutes in which no trial begins.
    """
    stop, settings = stop_event(), installation.load(data_dir)
    with _telling(name, log_file):
        compile_unless_stopped(stop)
        if study is None:
            repeat(work.worker_pass(settings, name, stop), every_s=WORKER_EVERY_S, stop=stop)
            return
        parent = os.getppid()

        def should_stop() -> bool:
            return stop.is_set() or os.getppid() != parent

        work.help_study(settings, name, StudyId(study), should_stop=should_stop)


@contextmanager
def _telling(name: str, log_file: Path | None) -> Iterator[None]:
    """Log as this process, and send traces where the environment names a collector."""
    gc.set_threshold(*_COLLECT_AFTER)
    logs.begin(name, log_file)
    tracing.begin(name)
    log.info("%s begins", name)
    try:
        yield
    finally:
        log.info("%s ends", name)
        tracing.end()
