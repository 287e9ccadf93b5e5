"""`fleetune schedule ...`: jobs at times."""

from __future__ import annotations

from typing import Annotated

import typer

from controlplane.cli import nouns
from controlplane.cli.errors import plain_errors
from controlplane.cli.nouns import Api, DataDir, Json, Key, Service
from controlplane.cli.tables.show import Column, as_json, as_table, console, field

app = typer.Typer(help="Jobs at times, e.g. 're-tune every Sunday 02:00'.", no_args_is_help=True)
ServiceArgument = Annotated[str, typer.Argument(help="The service.")]
NameArgument = Annotated[str, typer.Argument(help="The schedule's name.")]

COLUMNS: list[Column] = [
    ("service", field("service")),
    ("schedule", field("spec.name")),
    ("cron (UTC)", field("spec.cron")),
    ("action", field("spec.action")),
    ("paused", field("spec.paused")),
    ("next", field("next_at")),
    ("last", field("last_at")),
    ("last study", field("last_study")),
]


@app.command("list")
@plain_errors
def list_(
    service: Service = None,
    json: Json = False,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
) -> None:
    """List schedules with their next firing."""
    rows = nouns.client(api, key, data_dir).get("/schedules", service=service)["items"]
    as_json(rows) if json else as_table(rows, COLUMNS, empty="no schedule; `fleetune schedule create --help`")


@app.command("create")
@plain_errors
def create(
    service: ServiceArgument,
    name: NameArgument,
    cron: Annotated[str, typer.Option(help="Five cron fields, UTC, e.g. '0 2 * * SUN'.")],
    action: Annotated[str, typer.Option(help="tune, tune_and_apply or replay")] = "tune",
    rate: Annotated[float | None, typer.Option(help="replay: requests per second to one replica.")] = None,
    duration: Annotated[float | None, typer.Option(help="replay: measured seconds.")] = None,
    target: Annotated[str | None, typer.Option(help="replay: shadow (its own engine) or stable.")] = None,
    capacity: Annotated[float | None, typer.Option(help="replay against stable: what a replica sustains.")] = None,
    quiet: Annotated[str | None, typer.Option(help="replay: only within these hours, e.g. 01:00-05:00 UTC.")] = None,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
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
    _show(nouns.client(api, key, data_dir).post("/schedules", body))


def _action(name: str, help_: str) -> None:
    @app.command(name, help=help_)
    @plain_errors
    def act(
        service: ServiceArgument,
        name_: NameArgument,
        api: Api = None,
        key: Key = None,
        data_dir: DataDir = nouns.HERE,
    ) -> None:
        _show(nouns.client(api, key, data_dir).post(f"/schedules/{service}/{name_}/{name}"))


_action("pause", "Let it not fire.")
_action("resume", "Let it fire again.")
_action("trigger", "Fire it now.")


@app.command("delete")
@plain_errors
def delete(
    service: ServiceArgument,
    name: NameArgument,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
) -> None:
    """Remove a schedule."""
    nouns.client(api, key, data_dir).delete(f"/schedules/{service}/{name}")
    console.print(f"schedule {name} of {service} is gone")


def _show(answer: object) -> None:
    if isinstance(answer, dict) and "spec" in answer:
        as_table([answer], COLUMNS, empty="")
    elif answer is not None:
        as_json(answer)
