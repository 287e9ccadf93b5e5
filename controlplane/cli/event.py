"""`fleetune event ...`: the audit."""

from __future__ import annotations

from typing import Annotated

import typer

from controlplane.cli.asking import Ask, Limit, Noun, Service, asks
from controlplane.cli.tables.show import Column, field

EVENT = Noun(
    "/events",
    columns=[
        Column("at", field("at")),
        Column("actor", field("actor")),
        Column("action", field("action")),
        Column("subject", field("subject")),
        Column("reason", field("reason"), text=True),
    ],
    details=[],
    empty="nothing happened yet",
)

app = typer.Typer(help="The audit: who did what, why and when.", no_args_is_help=True)


@app.callback()
def _event() -> None:
    """The audit: who did what, why and when."""


@app.command("list")
@asks
def list_(
    ask: Ask,
    service: Service = None,
    subject: Annotated[str | None, typer.Option(help="e.g. rollout/r-1")] = None,
    limit: Limit = 50,
) -> None:
    """Show the audit, newest first."""
    ask.show_list(EVENT, ask.client.get("/events", service=service, subject=subject, limit=limit)["items"])
