"""`fleetune status`: one screen, is everything all right?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from controlplane.cli.asking import Ask, Noun, asks
from controlplane.cli.tables.show import Column, Output, field

EXIT_WRONG = 1

_WORDS = {
    "right": "everything is all right",
    "watch": "nobody suffers yet; watch what is said above",
    "wrong": "not all right",
}


def _gpus(row: Mapping[str, Any], name: str, form: str) -> str | None:
    """Return one number of every GPU, a dash for one that does not tell it; None when none is known."""
    told = [each["reading"][name] for each in row["gpus"]]
    return ", ".join("–" if value is None else form.format(value) for value in told) or None


def _memory(row: Mapping[str, Any]) -> str | None:
    used, total = (_gpus(row, name, "{:.1f}") for name in ("memory_used_gib", "memory_total_gib"))
    return None if used is None or total is None else f"{used} of {total}"


SERVICES = Noun(
    "/status",
    columns=[
        Column("service", field("service")),
        Column("stands", field("standing")),
        Column("ready", lambda row: f"{row['ready']}/{row['wanted']}"),
        Column("requests/s", lambda row: _number(row["rps"], ".3g")),
        Column("within the limits", lambda row: _number(row["attainment"], ".1%")),
        Column("rollout", field("rollout")),
        Column("saves USD/h", lambda row: _number(row["saved_usd_per_hour"], ".2f"), wide=True),
        Column("GPU busy", lambda row: _gpus(row, "utilisation_percent", "{:.0f} %"), wide=True),
        Column("GPU GiB", _memory, wide=True),
        Column("GPU W", lambda row: _gpus(row, "power_w", "{:.0f}"), wide=True),
        Column("GPU °C", lambda row: _gpus(row, "temperature_c", "{:.0f}"), wide=True),
    ],
    details=[],
    empty="no service; `fleetune service register -f service.yaml` adds one",
)


@asks
def status(ask: Ask) -> None:
    """Say in one screen whether everything is all right; exit code 1 when a promise is broken or a person must act."""
    found, down = ask.client.get("/status"), _is_down(ask.client.folder)
    ask.show_list(SERVICES, found["services"], raw=found)
    if ask.output in (Output.TABLE, Output.WIDE):
        _say_rest(found, "wrong" if down else found["standing"])
    if down:
        typer.echo(f"the installation in {ask.client.folder} is not up: `fleetune up -f service.yaml`", err=True)
    if down or found["standing"] == "wrong":
        raise typer.Exit(EXIT_WRONG)


def _is_down(folder: Path | None) -> bool:
    """Say whether an installation of this host is not running: what its store says is all right is of no use then."""
    from controlplane import settings as installation
    from controlplane.cli.installation.running import supervisor_pid

    if folder is None or installation.load(folder.absolute()).cluster is not None:
        return False
    return supervisor_pid(folder) is None


def _say_rest(found: Mapping[str, Any], standing: str) -> None:
    typer.echo(f"free GPUs: {found['free_gpus']}; studies running: {found['studies_running']}")
    for service in found["services"]:
        for each in service["findings"]:
            typer.echo(f"{service['service']}: {each['text']}")
    for each in found["findings"]:
        typer.echo(each["text"])
    typer.echo(_WORDS[standing])


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
