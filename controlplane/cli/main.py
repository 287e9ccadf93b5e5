"""`fleetune`: one command, a sub-command per task and per noun."""

from __future__ import annotations

import typer

from controlplane.cli import bench, commands, demo, knobs, load, replays, report, schedules, top_up, trace, tune, twin
from controlplane.cli.installation import down, processes, up
from controlplane.cli.tables.show import as_json
from controlplane.domain.service import ServiceSpec

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Benchmark-driven autotuning control plane for vLLM fleets.",
)
app.command("up")(up.up)
app.command("down")(down.down)
app.command("tune")(tune.tune)
app.command("demo")(demo.demo)
app.command("report")(report.report)
app.command("predict")(twin.predict)
app.command("calibrate")(twin.calibrate)
app.add_typer(commands.service, name="service")
app.add_typer(commands.study, name="study")
app.add_typer(commands.trial, name="trial")
app.add_typer(commands.recommendation, name="recommendation")
app.add_typer(commands.rollout, name="rollout")
app.add_typer(commands.fleet, name="fleet")
app.add_typer(schedules.app, name="schedule")
app.add_typer(replays.app, name="replay")
app.add_typer(commands.event, name="event")
app.add_typer(commands.key, name="key")
load.app.command("top-up")(top_up.top_up)
app.add_typer(load.app, name="load")
app.add_typer(twin.app, name="twin")
app.add_typer(knobs.app, name="knobs")
app.add_typer(trace.app, name="trace")
app.add_typer(bench.app, name="bench")
app.add_typer(processes.app, name="process")


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of service.yaml."""
    as_json(ServiceSpec.model_json_schema())


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
