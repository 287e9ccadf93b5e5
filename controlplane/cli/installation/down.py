"""`fleetune down`: stop an installation that another terminal (or the demo) left up."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.errors import plain_errors
from controlplane.cli.installation.running import supervisor_pid
from controlplane.domain.errors import NotFound, Unavailable
from controlplane.host.processes import identify, is_alive

STOP_S = 120.0


@plain_errors
def down(data_dir: Annotated[Path, typer.Option(help="The installation to stop.")] = Path(".fleetune")) -> None:
    """Stop the control plane and its engines, as Ctrl-C in its terminal would."""
    pid = supervisor_pid(data_dir)
    if pid is None:
        raise NotFound(f"nothing is up in {data_dir}")
    stop(pid)
    typer.echo("stopped")


def stop(pid: int) -> None:
    """Ask a supervisor to stop and wait for it. Raises Unavailable when it takes too long."""
    supervisor = identify(pid)
    if supervisor is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while is_alive(supervisor):
        if time.monotonic() > deadline:
            raise Unavailable(f"process {pid} does not stop", why=f"waited {STOP_S:g} s", allowed=f"kill -9 {pid}")
        time.sleep(0.2)
