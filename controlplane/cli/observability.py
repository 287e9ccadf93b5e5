"""`fleetune observability …`: Prometheus and Grafana beside Fleetune, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.tables.show import console
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.service_file import load_service
from dashboards.observability.files import Where, files

app = typer.Typer(help="Prometheus and Grafana beside Fleetune, as files.", no_args_is_help=True)


@app.callback()
def _observability() -> None:
    """Prometheus and Grafana beside Fleetune, as files."""


@app.command("write")
def write(
    folder: Annotated[Path, typer.Argument(help="Where to write; files of these names are replaced.")],
    file: Annotated[list[Path], typer.Option("--file", "-f", help="service.yaml; several may be given.")],
    api_url: Annotated[str, typer.Option("--api", help="Where Prometheus finds the API.")] = "http://127.0.0.1:8700",
    gateway: Annotated[list[str] | None, typer.Option(help="host:port of a gateway; several may be given.")] = None,
    key_file: Annotated[str | None, typer.Option(help="File on Prometheus's host with an API key.")] = None,
    alertmanager: Annotated[str | None, typer.Option(help="host:port of the Alertmanager that alerts go to.")] = None,
) -> None:
    """Write scrape configuration, recording and alert rules, and Grafana dashboards for the services named."""
    specs = [load_service(each) for each in file]
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise InvalidInput(f"two of the files describe the same service: {', '.join(sorted(names))}")
    texts = files(specs, Where(api_url, gateway or ["127.0.0.1:8000"], key_file, alertmanager=alertmanager))
    try:
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    except OSError as error:
        raise InvalidInput(f"cannot write to {folder}", why=unreadable(error)) from error
    console.print(f"{len(texts)} files in {folder}: {', '.join(sorted(texts))}")
