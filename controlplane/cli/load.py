"""`fleetune load …`: one load test against any OpenAI-compatible endpoint, and the generator's own limits."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_folder, require_readable, require_writable
from controlplane.cli.load_options import load_test_of
from controlplane.cli.load_plan import plan
from controlplane.cli.load_target import as_told, require_listener
from controlplane.cli.load_upload import upload
from controlplane.cli.tables.load import print_comparison, print_report, print_selfcheck
from controlplane.cli.tables.show import Output, as_json, as_programs_read
from controlplane.cli.top_up import top_up
from controlplane.domain.errors import InvalidInput
from controlplane.domain.report import LoadTestReport, Validity
from controlplane.domain.workload import TraceWorkload
from loadtests.loadtest import LoadTest, LoadTestResult, run_load_test
from loadtests.measure.compare import compare_runs
from loadtests.measure.records import RecordTable, read_records
from loadtests.measure.stopping import VerdictWatch
from loadtests.report.export import export_records, require_format
from loadtests.report.html import report_page
from loadtests.selfcheck import selfcheck
from loadtests.send.cutting import cut_rows
from loadtests.send.profiles import Profile, load_profile, shipped_profiles
from loadtests.send.runner import Generator
from loadtests.send.runner import Progress as RunProgress
from loadtests.send.schedule import Schedule
from loadtests.send.traces import load_trace

app = typer.Typer(help="Load-test any OpenAI-compatible endpoint.", invoke_without_command=True)

Out = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]

MISSED, INVALID = 1, 3
"""Exit codes: errors or a missed limit; a run whose generator could not keep up. 0 is a good run, 2 bad input."""


@app.callback()
@plain_errors
def load(
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Option("--file", "-f", help="Profile: a file, or a shipped one's name.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Base URL, with or without /v1.")] = None,
    model: Annotated[str, typer.Option(help="Name to send as `model`; the target is asked.")] = "",
    rate: Annotated[float | None, typer.Option(help="Requests per second instead of the profile's.")] = None,
    duration: Annotated[float | None, typer.Option(help="Measured seconds instead of the profile's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed instead of the profile's.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Generator processes on this host.")] = 1,
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json: text prompts of exact length.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    ca_file: Annotated[
        str | None, typer.Option(help="Certificates (PEM) to trust an https target by, instead of the system's.")
    ] = None,
    time_lapse: Annotated[float, typer.Option(help="Emulated seconds per second, if the target does not say.")] = 1.0,
    stop_early: Annotated[bool, typer.Option(help="End as soon as the verdict on every limit is certain.")] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON here (- prints it).")
    ] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="Write a page with plots here.")] = None,
    records_path: Annotated[Path | None, typer.Option("--records", help="Write all records, .csv or .parquet.")] = None,
    output: Out = Output.TABLE,
    out: Annotated[Path | None, typer.Option(help="Keep the raw records in this folder.")] = None,
) -> None:
    """Run a profile against a target and report what it measured.

    Exit code 0: valid, every limit met, no errors. 1: errors or a limit missed. 2: bad input. 3: the run is invalid.
    """
    if context.invoked_subcommand is not None:
        return
    if profile is None or target is None:
        raise InvalidInput("give a profile and a target", allowed=f"-f FILE or one of {', '.join(shipped_profiles())}")
    require_writable(json_path if str(json_path) != "-" else None, html_path, records_path)
    require_readable(tokenizer, ca_file)
    require_format(records_path)
    require_folder(out)
    changes = {"rate_rps": rate, "duration_s": duration, "seed": seed}
    chosen = _checked(load_profile(profile), {name: value for name, value in changes.items() if value is not None})
    test = load_test_of(chosen, target, model, tokenizer=tokenizer, key_variable=api_key_env, time_lapse=time_lapse)
    test = replace(test, ca_file=ca_file, processes=processes)
    _say_lost_rows(chosen)
    require_listener(test)
    chosen, test = as_told(chosen, test)
    schedule = chosen.schedule()
    with tempfile.TemporaryDirectory(prefix="fleetune-load-") as scratch:
        verdict = VerdictWatch(chosen.slos) if stop_early else None
        result = _run(test, chosen.name, schedule, out or Path(scratch), verdict)
        _print(result.report, Output.JSON if str(json_path) == "-" else output, chosen.name)
        _write(result, chosen, json_path, html_path, records_path)
    raise typer.Exit(_exit_code(result.report))


@app.command("selfcheck")
@plain_errors
def selfcheck_command(
    rates: Annotated[
        str, typer.Option(help="Requests per second to try, separated by commas.")
    ] = "50,150,300,600,1000",
    seconds: Annotated[float, typer.Option(min=1, help="Seconds per rate.")] = 8.0,
    processes: Annotated[int, typer.Option(min=1, help="Generator processes.")] = 1,
    output: Out = Output.TABLE,
    as_json_: Annotated[bool, typer.Option("--json", hidden=True, help="The same as -o json.")] = False,
) -> None:
    """Measure how exact the generator is on this machine, and up to which rate, against a server of known latency."""
    try:
        wanted = [float(each) for each in rates.split(",")]
    except ValueError as error:
        raise InvalidInput(f"rates '{rates}' are not numbers", allowed="e.g. 50,300") from error
    found = selfcheck(wanted, seconds=seconds, processes=processes)
    told = Output.JSON if as_json_ else output
    if not as_programs_read(told, [row._asdict() for row in found], names=[f"{row.rate_rps:g}" for row in found]):
        print_selfcheck(found)


@app.command("compare")
@plain_errors
def compare_command(
    before: Annotated[Path, typer.Argument(help="records.jsonl of the first run.")],
    after: Annotated[Path, typer.Argument(help="records.jsonl of the second run.")],
) -> None:
    """Compare two runs: differences of percentiles and of the error ratio, with 95 % intervals."""
    print_comparison(compare_runs(_records(before), _records(after)))


app.command("upload")(upload)
app.command("plan")(plan)
app.command("top-up")(top_up)


@app.command("profiles")
def profiles_command() -> None:
    """List the profiles that come with Fleetune."""
    for name in shipped_profiles():
        typer.echo(f"{name:12} {load_profile(name).description}")


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a profile."""
    as_json(Profile.model_json_schema())


def _records(path: Path) -> RecordTable:
    allowed = "records.jsonl of a run (fleetune load --out)"
    if not path.is_file():
        raise InvalidInput(f"{path} is not a file", allowed=allowed)
    try:
        found = read_records([path])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} holds no request records", allowed=allowed) from error
    if not len(found):
        raise InvalidInput(f"{path} is empty", allowed=allowed)
    return found


def _checked(profile: Profile, changes: dict[str, Any]) -> Profile:
    for name, value in changes.items():
        if not math.isfinite(value) or value < 0 or (value == 0 and name != "seed"):
            allowed = "a positive number" if name != "seed" else "0 or more"
            raise InvalidInput(f"{name.partition('_')[0]} is {value:g}", allowed=allowed)
    return profile.evolve(**changes)


def _say_lost_rows(profile: Profile) -> None:
    """Say what of a trace is not sent as it stands there: broken rows are left out, long ones cut."""
    if not isinstance(profile.workload, TraceWorkload):
        return
    trace = load_trace(profile.workload.trace)
    if trace.broken:
        what = f"{trace.broken} broken rows of trace {trace.name} are left out; the first: {trace.first_broken}"
        typer.secho(what, err=True, fg=typer.colors.YELLOW)
    if (cut := cut_rows(profile.workload, trace)).cut:
        typer.secho(f"trace {trace.name}: {cut.words(profile.workload)}", err=True, fg=typer.colors.YELLOW)


def _run(test: LoadTest, name: str, schedule: Schedule, out_dir: Path, verdict: VerdictWatch | None) -> LoadTestResult:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Generator(processes=test.processes) as generator, Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"{name} at {test.rate_rps:g} requests/s", total=len(schedule), state="starting")

        def look(progress: RunProgress) -> str | None:
            state = f"{progress.sent} sent, {progress.in_flight} in flight"
            bar.update(task, completed=progress.sent - progress.in_flight, state=state)
            return verdict(progress) if verdict else None

        return run_load_test(test, generator, out_dir=out_dir, watch=look, schedule=schedule)


def _print(report: LoadTestReport, output: Output, name: str) -> None:
    if not as_programs_read(output, report.model_dump(mode="json"), names=[name]):
        print_report(report)


def _write(
    result: LoadTestResult, profile: Profile, json_path: Path | None, html_path: Path | None, records_path: Path | None
) -> None:
    report = result.report
    if json_path is not None and str(json_path) != "-":
        json_path.write_text(report.model_dump_json(indent=1) + "\n")
    if html_path is not None:
        records, title = read_records([result.records_path]), f"Load test {profile.name}"
        html_path.write_text(report_page(report, records, title=title, warmup_s=profile.warmup_s))
    if records_path is not None:
        export_records(result.records_path, records_path)


def _exit_code(report: LoadTestReport) -> int:
    if report.validity is Validity.INVALID:
        return INVALID
    if report.errors or not all(check.is_shown(report.requests) for check in report.slo_checks):
        return MISSED
    return 0
