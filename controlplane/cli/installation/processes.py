"""`fleetune process ...`: the entry points of the supervised processes. Not for people; `fleetune up` runs them."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from controlplane import settings as installation
from controlplane import wiring
from controlplane.cli.errors import plain_errors
from controlplane.cli.installation.stopping import stop_event
from controlplane.domain.base import StudyId
from controlplane.worker import repeat

CONTROLLER_EVERY_S = 0.5
WORKER_EVERY_S = 1.0
MATCHER_EVERY_S = 1.0

app = typer.Typer(hidden=True, help="Entry points of the supervised processes.")
DataDir = Annotated[Path, typer.Option(help="Where the installation lives.")]


@app.command()
@plain_errors
def api(data_dir: DataDir) -> None:
    """Serve the API."""
    settings = installation.load(data_dir)
    uvicorn.run(
        wiring.build_app(settings), host=settings.host, port=settings.api_port, log_level="warning", access_log=False
    )


@app.command()
@plain_errors
def controller(data_dir: DataDir) -> None:
    """Reconcile fleets, rollouts and schedules, a pass every half second; beside it make up the load of a canary."""
    _log()
    settings, stop = installation.load(data_dir), stop_event()
    # A daemon: were it stuck in a load test, the process could end nevertheless, and the generator ends with it.
    matching = {"every_s": MATCHER_EVERY_S, "stop": stop}
    threading.Thread(
        target=repeat, args=[wiring.load_matcher_pass(settings, stop)], kwargs=matching, name="load", daemon=True
    ).start()
    repeat(wiring.controller_pass(settings), every_s=CONTROLLER_EVERY_S, stop=stop)


@app.command()
@plain_errors
def worker(data_dir: DataDir, name: str = "worker", study: str | None = None) -> None:
    """Claim studies and run their trials; with --study help with that one, as long as the process that asked lives."""
    _log()
    stop = stop_event()
    if study is not None:
        parent = os.getppid()
        wiring.help_study(
            installation.load(data_dir),
            name,
            StudyId(study),
            should_stop=lambda: stop.is_set() or os.getppid() != parent,
        )
        return
    repeat(wiring.worker_pass(installation.load(data_dir), name, stop), every_s=WORKER_EVERY_S, stop=stop)


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
