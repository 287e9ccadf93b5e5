"""`fleetune replay ...`: what scheduled replays measured over time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Limit, Noun, Service, asks
from controlplane.cli.client import ApiClient
from controlplane.cli.tables.show import Column, Output, field

app = typer.Typer(help="Scheduled replays: one load test again and again, each against its baseline.")


def _at(metric: str, rank: float) -> Column:
    def value(row: Any) -> str:
        found = next((p["value"] for p in row["report"][metric]["percentiles"] if p["percentile"] == rank), None)
        return "–" if found is None else f"{found:.1f}"

    return Column(f"P{rank:g} {metric.removesuffix('_ms').upper()} ms", value)


REPLAY = Noun(
    "/replays",
    columns=[
        Column("replay", field("report_id")),
        Column("at", field("at")),
        Column("rate", field("report.rate_rps")),
        _at("ttft_ms", 50)._replace(wide=True),
        _at("ttft_ms", 99),
        _at("tpot_ms", 50)._replace(wide=True),
        _at("tpot_ms", 99),
        Column("errors", field("report.errors")),
        Column("run", field("report.validity")),
        Column("regressed", field("regressed"), text=True),
    ],
    details=[],
    empty="no replay yet; `fleetune schedule create SERVICE NAME --cron '0 3 * * *' --action replay --rate 5`",
)


@app.command("list")
@asks
def list_(ask: Ask, service: Service = None, limit: Limit = 30) -> None:
    """List replays, newest first, after those that run or wait."""
    rows = ask.client.get("/replays", service=service, limit=limit)["items"]
    if ask.output in (Output.TABLE, Output.WIDE):
        for line in _due(ask.client, service):
            typer.echo(line)
    ask.show_list(REPLAY, rows)


@app.command("show")
@asks
def show(ask: Ask, replay: Annotated[str, typer.Argument(help="Its name in the list.")]) -> None:
    """Show one replay's report."""
    report = ask.client.get(f"/load-reports/{replay}")
    if ask.output not in (Output.TABLE, Output.WIDE):
        ask.show_one(REPLAY, report)
        return
    from controlplane.cli.tables.load import print_report
    from controlplane.domain.report import LoadTestReport

    print_report(LoadTestReport.model_validate(report))


def _due(client: ApiClient, service: str | None) -> list[str]:
    from controlplane.domain.schedule import Schedule
    from controlplane.domain.studies.study import StudyState

    schedules = [Schedule.model_validate(each) for each in client.get("/schedules", service=service)["items"]]
    if not any(schedule.replay_run for schedule in schedules):
        return []
    studies = client.get("/studies")["items"]
    busy = [study["study_id"] for study in studies if study["state"] == StudyState.RUNNING]
    return [line for schedule in schedules if (line := schedule.replay_progress(busy))]
