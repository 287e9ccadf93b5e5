"""`fleetune observability …`: Prometheus and Grafana beside Fleetune, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from controlplane.cli.errors import plain_errors
from controlplane.cli.tables.show import console
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.host.files import write_whole
from controlplane.reading.service_file import load_service
from dashboards.observability.collecting import Collected
from dashboards.observability.files import Where, files

app = typer.Typer(help="Prometheus and Grafana beside Fleetune, as files.", no_args_is_help=True)


@app.callback()
def _observability() -> None:
    """Prometheus and Grafana beside Fleetune, as files."""


@app.command("write")
@plain_errors
def write(
    folder: Annotated[Path, typer.Argument(help="Where to write; files of these names are replaced.")],
    file: Annotated[list[Path], typer.Option("--file", "-f", help="service.yaml; several may be given.")],
    api_url: Annotated[str, typer.Option("--api", help="Where Prometheus finds the API.")] = "http://127.0.0.1:8700",
    gateway: Annotated[list[str] | None, typer.Option(help="host:port of a gateway; several may be given.")] = None,
    key_file: Annotated[str | None, typer.Option(help="File on Prometheus's host with an API key.")] = None,
    alertmanager: Annotated[str | None, typer.Option(help="host:port of the Alertmanager that alerts go to.")] = None,
    logs: Annotated[Path, typer.Option(help="The installation's folder of logs.")] = Path(".fleetune/logs"),
    loki: Annotated[str, typer.Option(help="Where Promtail finds a Loki.")] = "http://127.0.0.1:3100",
    traces_to: Annotated[str | None, typer.Option(help="Where a collector sends traces on, OTLP over HTTP.")] = None,
) -> None:
    """Write scraping, rules, Grafana dashboards and collectors of logs and traces for the services named."""
    specs = [load_service(each) for each in file]
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise InvalidInput(f"two of the files describe the same service: {', '.join(sorted(names))}")
    gateways = [_address(each, "--gateway") for each in gateway or ["127.0.0.1:8000"]]
    alerts_to = None if alertmanager is None else _address(alertmanager, "--alertmanager")
    sent_on = None if traces_to is None else _url(traces_to, "--traces-to")
    collected = Collected(str(logs.absolute()), _url(loki, "--loki"), sent_on)
    where = Where(_url(api_url, "--api"), gateways, key_file, alertmanager=alerts_to, collected=collected)
    texts = files(specs, where)
    try:
        for name, text in texts.items():
            write_whole(folder / name, text, private=False)
    except OSError as error:
        raise InvalidInput(f"cannot write to {folder}", why=unreadable(error)) from error
    console.print(f"{len(texts)} files in {folder}: {', '.join(sorted(texts))}")


def _url(text: str, option: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"{option} '{text}' is no URL", allowed="http://HOST:PORT or https://HOST")
    return text


def _address(text: str, option: str) -> str:
    """Return an address as Prometheus takes it: it has no scheme and no path."""
    host, _, port = text.rpartition(":")
    is_host = bool(host) and (":" not in host or host.startswith("[")) and "/" not in host
    if not is_host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidInput(f"{option} '{text}' is no address", allowed="HOST:PORT, as 127.0.0.1:8000")
    return text
