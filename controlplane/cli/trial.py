"""`fleetune trial ...`: configurations tried within a study."""

from __future__ import annotations

from typing import Annotated

import typer

from controlplane.cli.asking import Ask, Noun, add_show, asks
from controlplane.cli.tables.show import Column, field

TRIAL = Noun(
    "/trials",
    columns=[
        Column("trial", field("trial_id")),
        Column("kind", field("kind")),
        Column("state", field("state")),
        Column("capacity rps", field("capacity.rps")),
        Column("GPUs", field("fleet.gpus")),
        Column("USD/h", field("fleet.usd_per_hour")),
        Column("USD/Mtok", field("usd_per_million_tokens"), wide=True),
        Column("flags", field("config.flags"), text=True),
        Column("reason", field("reason"), text=True),
    ],
    details=[
        Column("trial", field("trial_id")),
        Column("kind", field("kind")),
        Column("state", field("state")),
        Column("reason", field("reason")),
        Column("flags", field("config.flags")),
        Column("start-up s", field("startup_s")),
        Column("capacity rps", field("capacity.rps")),
        Column("between", lambda t: [t["capacity"]["low_rps"], t["capacity"]["high_rps"]] if t["capacity"] else None),
        Column(
            "levels",
            lambda t: [f"{v['rate_rps']:.3g} rps {'passed' if v['passed'] else 'missed'}" for v in t["levels"]],
        ),
        Column("replicas", field("fleet.replicas")),
        Column("USD/h", field("fleet.usd_per_hour")),
        Column("USD/Mtok", field("usd_per_million_tokens")),
        Column("twin expected", field("predicted")),
    ],
    empty="no trial yet",
)

app = typer.Typer(help="Configurations tried within a study.", no_args_is_help=True)
add_show(app, TRIAL)


@app.command("list")
@asks
def list_(ask: Ask, study: Annotated[str, typer.Argument(help="The study.")]) -> None:
    """List the trials of a study, oldest first."""
    ask.show_list(TRIAL, ask.client.get(f"/studies/{study}/trials")["items"])
