"""`fleetune fleet ...`: engines and GPUs."""

from __future__ import annotations

import typer

from controlplane.cli.asking import Ask, Noun, asks
from controlplane.cli.tables.show import Column, Output, field

ENGINE = Noun(
    "/fleet",
    columns=[
        Column("engine", field("spec.engine_id")),
        Column("owner", field("spec.owner")),
        Column("state", field("state")),
        Column("GPUs", field("gpu_indices")),
        Column("url", field("url"), wide=True),
        Column("flags", field("spec.config.flags"), text=True),
        Column("failure", field("failure_detail"), text=True),
    ],
    details=[],
    empty="no engine runs",
)

app = typer.Typer(help="Engines and GPUs.", no_args_is_help=True)


@app.command("list")
@app.command("show")
@asks
def show(ask: Ask) -> None:
    """Show every engine and the free GPUs."""
    answer = ask.client.get("/fleet")
    ask.show_list(ENGINE, answer["engines"], raw=answer)
    if ask.output in (Output.TABLE, Output.WIDE):
        typer.echo(f"free GPUs: {', '.join(str(gpu) for gpu in answer['free_gpus']) or 'none'}")
