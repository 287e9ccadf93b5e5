"""`fleetune key ...`: API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from controlplane.cli.asking import Ask, Noun, asks
from controlplane.cli.tables.show import Column, field

Name = Annotated[str, typer.Argument(help="Its name.")]
KEY = Noun("/keys", columns=[Column("key", field("name"))], details=[], empty="no key: only this machine may ask")

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("create")
@asks
def create(ask: Ask, name: Name) -> None:
    """Make an API key. The secret is shown once and not kept."""
    made = ask.client.post("/keys", {"name": name})
    typer.echo(f"key {made['name']}, shown this once:", err=True)
    typer.echo(made["secret"])


@app.command("list")
@asks
def list_(ask: Ask) -> None:
    """List the names of the keys."""
    ask.show_list(KEY, ask.client.get("/keys")["items"])


@app.command("revoke")
@asks
def revoke(ask: Ask, name: Name) -> None:
    """Revoke a key at once."""
    ask.client.delete(f"/keys/{name}")
    typer.echo(f"key {name} is revoked")
