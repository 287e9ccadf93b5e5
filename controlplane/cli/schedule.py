"""`fleetune schedule ...`: jobs at times."""

from __future__ import annotations

from typing import Annotated

import typer

from controlplane.cli.asking import Ask, Noun, Service, asks
from controlplane.cli.tables.show import Column, field

app = typer.Typer(help="Jobs at times, e.g. 're-tune every Sunday 02:00'.", no_args_is_help=True)
ServiceArgument = Annotated[str, typer.Argument(help="The service.")]
NameArgument = Annotated[str, typer.Argument(help="The schedule's name.")]

SCHEDULE = Noun(
    "/schedules",
    columns=[
        Column("service", field("service")),
        Column("schedule", field("spec.name")),
        Column("cron (UTC)", field("spec.cron")),
        Column("action", field("spec.action")),
        Column("paused", field("spec.paused")),
        Column("next", field("next_at")),
        Column("last", field("last_at"), wide=True),
        Column("last study", field("last_study"), wide=True),
    ],
    details=[
        Column("service", field("service")),
        Column("schedule", field("spec.name")),
        Column("cron (UTC)", field("spec.cron")),
        Column("action", field("spec.action")),
        Column("paused", field("spec.paused")),
        Column("next", field("next_at")),
        Column("last", field("last_at")),
        Column("last study", field("last_study")),
    ],
    empty="no schedule; `fleetune schedule create --help`",
    names=2,
)


@app.command("list")
@asks
def list_(ask: Ask, service: Service = None) -> None:
    """List schedules with their next firing."""
    ask.show_list(SCHEDULE, ask.client.get("/schedules", service=service)["items"])


@app.command("create")
@asks
def create(
    ask: Ask,
    service: ServiceArgument,
    name: NameArgument,
    cron: Annotated[str, typer.Option(help="Five cron fields, UTC, e.g. '0 2 * * SUN'.")],
    action: Annotated[str, typer.Option(help="tune, tune_and_apply or replay")] = "tune",
    rate: Annotated[float | None, typer.Option(help="replay: requests per second to one replica.")] = None,
    duration: Annotated[float | None, typer.Option(help="replay: measured seconds.")] = None,
    target: Annotated[str | None, typer.Option(help="replay: shadow (its own engine) or stable.")] = None,
    capacity: Annotated[float | None, typer.Option(help="replay against stable: what a replica sustains.")] = None,
    quiet: Annotated[str | None, typer.Option(help="replay: only within these hours, e.g. 01:00-05:00 UTC.")] = None,
) -> None:
    """Add a schedule."""
    start, _, end = (quiet or "").partition("-")
    given = {
        "rate_rps": rate,
        "duration_s": duration,
        "target": target,
        "capacity_rps": capacity,
        "quiet_from": start or None,
        "quiet_to": end or None,
    }
    replay = {field_: value for field_, value in given.items() if value is not None}
    schedule = {"name": name, "cron": cron, "action": action} | ({"replay": replay} if replay else {})
    body = {"service": service, "schedule": schedule}
    ask.show_one(SCHEDULE, ask.client.post("/schedules", body))


def _action(name: str, help_: str) -> None:
    @app.command(name, help=help_)
    @asks
    def act(
        ask: Ask,
        service: ServiceArgument,
        name_: NameArgument,
    ) -> None:
        ask.show_one(SCHEDULE, ask.client.post(f"/schedules/{service}/{name_}/{name}"))


_action("pause", "Let it not fire.")
_action("resume", "Let it fire again.")
_action("trigger", "Fire it now.")


@app.command("delete")
@asks
def delete(
    ask: Ask,
    service: ServiceArgument,
    name: NameArgument,
) -> None:
    """Remove a schedule."""
    ask.client.delete(f"/schedules/{service}/{name}")
    typer.echo(f"schedule {name} of {service} is gone")
