"""`fleetune audit ...`: the gateways' audit log of requests, exported and checked."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from controlplane.adapters.gateway.audit_files import audit_lines, audited, verified
from controlplane.cli.errors import plain_errors
from controlplane.domain.door.audit import Broken, Entry
from controlplane.domain.errors import InvalidInput

app = typer.Typer(help="The audit log of requests: who, when, which model, what was decided.", no_args_is_help=True)

DataDir = Annotated[Path, typer.Option("--data-dir", "--data", help="Data folder of the installation.")]
NOT_WHOLE = 1


@app.callback()
def _audit() -> None:
    """The audit log of requests: who, when, which model, what was decided."""


@app.command("export")
@plain_errors
def export(
    since: Annotated[datetime | None, typer.Option(help="Only requests from this moment (UTC) on.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only requests before this moment (UTC).")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this key's, by its name.")] = None,
    data: DataDir = Path(".fleetune"),
) -> None:
    """Print entries as JSON lines, as they stand in the log, gateway after gateway."""
    for gateway in audited(data):
        for where, line in audit_lines(data, gateway):
            entry = _entry(where, line)
            happened, at = entry.happened, entry.happened.at.replace(tzinfo=None)
            wanted = (tenant in (None, happened.tenant)) and (key in (None, happened.key))
            if wanted and (since is None or at >= since) and (until is None or at < until):
                typer.echo(line.decode())


@app.command("verify")
@plain_errors
def verify(
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH that an earlier check printed: the log must still hold that entry.")
    ] = None,
    data: DataDir = Path(".fleetune"),
) -> None:
    """Check that no entry was changed, taken out, put in or moved. Exit code 1: something was."""
    if head is not None and not _is_head(head):
        raise InvalidInput(f"`{head}` is no end of a log", allowed="NUMBER:HASH, as `fleetune audit verify` prints it")
    whole, heads = True, set[str]()
    for gateway in audited(data):
        found = verified(data, gateway)
        if isinstance(found, Broken):
            typer.echo(f"{gateway}: NOT WHOLE at {found.where}: {found.why}")
            whole = False
            continue
        heads |= {f"{entry.number}:{entry.hash}" for entry in _entries(data, gateway)} if head else set()
        typer.echo(f"{gateway}: whole, entries {found.first} to {found.head.number}, end {_said(found.head)}")
    if head is not None and whole and head not in heads:
        typer.echo(f"NOT WHOLE: no log holds {head} any more: its end was cut off, or it was written anew")
        whole = False
    if not whole:
        raise typer.Exit(NOT_WHOLE)


def _entries(data: Path, gateway: str) -> list[Entry]:
    return [_entry(where, line) for where, line in audit_lines(data, gateway)]


def _entry(where: str, line: bytes) -> Entry:
    try:
        return Entry.model_validate_json(line)
    except ValueError as error:
        what = f"{where} is no entry of an audit log"
        raise InvalidInput(what, allowed="`fleetune audit verify` checks it") from error


def _is_head(text: str) -> bool:
    number, _, digest = text.partition(":")
    return number.isdigit() and len(digest) == 64


def _said(head: tuple[int, str]) -> str:
    return f"{head[0]}:{head[1]}"
