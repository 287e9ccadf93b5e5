"""`fleetune process ...` as only pods of the Helm chart call it: what `up` does around its processes on one host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from controlplane import settings as installation
from controlplane.cli.errors import plain_errors
from controlplane.reading.service_file import load_service
from controlplane.services.fleet.serving import register_service
from controlplane.services.fleet.unknown_names import unknown_names
from controlplane.wiring import machine
from dashboards.run import URL_VARIABLE, dashboard_command

app = typer.Typer(hidden=True)
DataDir = Annotated[Path, typer.Option(help="Where the installation lives.")]


@app.command()
@plain_errors
def prepare(
    data_dir: DataDir,
    file: Annotated[list[Path] | None, typer.Option("--file", "-f", help="service.yaml to register.")] = None,
) -> None:
    """Bring the store to its newest schema and register services, before any other process looks at it."""
    settings = installation.load(data_dir)
    specs = [load_service(path) for path in file or []]
    store, clock = machine.open_store(settings), machine.installation_clock(settings)
    for spec in specs:
        register_service(store, spec, actor="chart", now=clock())
        typer.echo(f"registered {spec.name}")
    for spec in specs:
        for said in unknown_names(store, spec):
            typer.echo(f"note: {spec.name}: {said}")
    typer.echo("the store is ready")


@app.command("stop-engines")
@plain_errors
def stop_engines(data_dir: DataDir) -> None:
    """Drain, stop and forget every engine, once no controller runs any more: nothing of the fleet is left."""
    settings = installation.load(data_dir)
    machine.stop_all_engines(settings)
    fleet = machine.open_fleet(settings)
    for engine in fleet.list():
        if engine.state.is_over:
            fleet.forget(engine.spec.engine_id)
    left = [engine.spec.engine_id for engine in fleet.list()]
    typer.echo(f"still there: {', '.join(left)}" if left else "every engine is gone")
    raise typer.Exit(1 if left else 0)


@app.command()
@plain_errors
def dashboard(data_dir: DataDir) -> None:
    """Serve the dashboard on loopback, of the API that FLEETUNE_API_URL names, with the key of FLEETUNE_API_KEY."""
    settings = installation.load(data_dir)
    command = dashboard_command(settings.dashboard_port, os.environ.get(URL_VARIABLE) or settings.api_url)
    os.execv(command[0], command)
