"""`fleetune schedule ...`: jobs at times."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Noun, Service, asks
from controlplane.cli.client import ApiClient
from controlplane.cli.tables.show import Column, field

app = typer.Typer(help="Jobs at times, e.g. 're-tune every Sunday 02:00'.", no_args_is_help=True)
LOOK_EVERY_S = 0.25
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


@app.command("trigger")
@asks
def trigger(
    ask: Ask,
    service: ServiceArgument,
    name: NameArgument,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the controller.")] = 10.0,
) -> None:
    """Fire it now, and say what came of it."""
    due = ask.client.post(f"/schedules/{service}/{name}/trigger")
    said = _outcome(ask.client, due, within_s=wait)
    ask.show_one(SCHEDULE, _one(ask.client, service, name))
    typer.echo(said, err=True)


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


def _one(client: ApiClient, service: str, name: str) -> Any:
    rows = client.get("/schedules", service=service)["items"]
    return next(row for row in rows if row["spec"]["name"] == name)


def _outcome(client: ApiClient, due: Any, *, within_s: float) -> str:
    """Wait for the controller's next pass and say what it made of the firing."""
    subject = f"schedule/{due['service']}/{due['spec']['name']}"
    since = datetime.fromisoformat(due["next_at"])
    deadline = time.monotonic() + within_s
    while True:
        for event in client.get("/events", subject=subject, limit=10)["items"]:
            known = event["action"] in ("schedule.fired", "schedule.failed")
            if known and datetime.fromisoformat(event["at"]) >= since:
                return f"{event['action'].removeprefix('schedule.')}: {event['reason']}"
        if time.monotonic() >= deadline:
            return f"not fired within {within_s:g} s: no controller runs (`fleetune up`); the next one fires it"
        time.sleep(LOOK_EVERY_S)
