"""`fleetune replay ...`: what scheduled replays measured over time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controlplane.cli import nouns
from controlplane.cli.client import ApiClient
from controlplane.cli.errors import plain_errors
from controlplane.cli.nouns import Api, DataDir, Json, Key, Limit, Service
from controlplane.cli.tables.load import print_report
from controlplane.cli.tables.show import Column, as_json, as_table, console, field
from controlplane.domain.report import LoadTestReport
from controlplane.domain.schedule import Schedule
from controlplane.domain.study import StudyState

app = typer.Typer(help="Scheduled replays: one load test again and again, each against its baseline.")


def _at(metric: str, rank: float) -> Column:
    def value(row: Any) -> str:
        found = next((p["value"] for p in row["report"][metric]["percentiles"] if p["percentile"] == rank), None)
        return "–" if found is None else f"{found:.1f}"

    return f"P{rank:g} {metric.removesuffix('_ms').upper()} ms", value


COLUMNS: list[Column] = [
    ("replay", field("report_id")),
    ("at", field("at")),
    ("rate", field("report.rate_rps")),
    _at("ttft_ms", 50),
    _at("ttft_ms", 99),
    _at("tpot_ms", 50),
    _at("tpot_ms", 99),
    ("errors", field("report.errors")),
    ("run", field("report.validity")),
    ("regressed", field("regressed")),
]


@app.command("list")
@plain_errors
def list_(
    service: Service = None,
    limit: Limit = 30,
    json: Json = False,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
) -> None:
    """List replays, newest first, after those that run or wait."""
    client = nouns.client(api, key, data_dir)
    rows = client.get("/replays", service=service, limit=limit)["items"]
    for line in () if json else _due(client, service):
        console.print(line, highlight=False)
    empty = "no replay yet; `fleetune schedule create SERVICE NAME --cron '0 3 * * *' --action replay --rate 5`"
    as_json(rows) if json else as_table(rows, COLUMNS, empty=empty)


@app.command("show")
@plain_errors
def show(
    replay: Annotated[str, typer.Argument(help="Its name in the list.")],
    json: Json = False,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
) -> None:
    """Show one replay's report."""
    report = nouns.client(api, key, data_dir).get(f"/load-reports/{replay}")
    as_json(report) if json else print_report(LoadTestReport.model_validate(report))


def _due(client: ApiClient, service: str | None) -> list[str]:
    schedules = [Schedule.model_validate(each) for each in client.get("/schedules", service=service)["items"]]
    if not any(schedule.replay_run for schedule in schedules):
        return []
    studies = client.get("/studies")["items"]
    busy = [study["study_id"] for study in studies if study["state"] == StudyState.RUNNING]
    return [line for schedule in schedules if (line := schedule.replay_progress(busy))]
