"""`fleetune trace …`: record live traffic as a trace, list, describe, compare and export traces."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_writable
from controlplane.cli.tables.show import Output, as_programs_read, console
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import InvalidInput
from controlplane.host.clock import utc_now
from loadtests.report.describe import Drift, TraceStats, compare_traces, describe_trace
from loadtests.report.describe_html import trace_page
from loadtests.send.trace_record import export_trace, record_trace
from loadtests.send.trace_rows import Columns, TimeUnit
from loadtests.send.traces import SHIPPED, Trace, load_trace

app = typer.Typer(help="Traces: recorded arrivals and lengths, never text.", no_args_is_help=True)

Out = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]
DataDir = Annotated[Path, typer.Option("--data-dir", "--data", help="Data folder of the installation.")]
ColumnMap = Annotated[
    str | None, typer.Option("--columns", help="arrival,prompt,output[,unit]: column names and s, ms, us or iso.")
]
_FOLDER = "traces"


@app.command("record")
@plain_errors
def record(
    service: Annotated[str, typer.Argument(help="Service whose live requests to record.")],
    name: Annotated[str, typer.Option(help="Name of the trace; default: service and date.")] = "",
    hours: Annotated[float, typer.Option(min=0.001, help="How far back.")] = 1.0,
    data: DataDir = Path(".fleetune"),
) -> None:
    """Make a trace of the requests that the gateways answered in the last hours: arrivals and lengths, never text."""
    now = utc_now()
    records = SpooledRecords(data, with_blocks=True).read(ServiceName(service), since=now - timedelta(hours=hours))
    path = data / _FOLDER / f"{_plain(name or f'{service}-{now:%Y%m%d-%H%M}')}.jsonl"
    recorded = record_trace(records, path)
    typer.echo(
        f"{path}: {recorded.requests} requests ({recorded.estimated} prompt lengths estimated from their bytes), "
        f"{recorded.left_out} left out ({recorded.unserved} refused, broken off or cut by ourselves, "
        f"{recorded.left_out - recorded.unserved} without token counts)"
    )


@app.command("list")
@plain_errors
def list_traces(output: Out = Output.TABLE, data: DataDir = Path(".fleetune")) -> None:
    """List the shipped traces and those recorded here."""
    recorded = {path.stem: str(path) for path in sorted((data / _FOLDER).glob("*.jsonl"))}
    rows = [{"trace": name, "what": what} for name, what in (dict(SHIPPED) | recorded).items()]
    if not as_programs_read(output, rows, names=[row["trace"] for row in rows]):
        for row in rows:
            typer.echo(f"{row['trace']}  {row['what']}")


@app.command("describe")
@plain_errors
def describe(
    trace: Annotated[str, typer.Argument(help="Shipped or recorded name, or a file.")],
    against: Annotated[str | None, typer.Option(help="Another trace: show what differs (drift).")] = None,
    columns: ColumnMap = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="Write plots here.")] = None,
    output: Out = Output.TABLE,
    json_: Annotated[bool, typer.Option("--json", hidden=True, help="The same as -o json.")] = False,
    data: DataDir = Path(".fleetune"),
) -> None:
    """Show lengths, rate, burstiness, shared prefixes and sessions; with --against also what changed."""
    require_writable(html_path)
    traces = [_load(name, columns, data) for name in (trace, against) if name is not None]
    stats = [describe_trace(each) for each in traces]
    drift = compare_traces(traces[0], traces[1]) if len(traces) == 2 else []
    told = {"traces": [each.model_dump() for each in stats], "drift": [each.model_dump() for each in drift]}
    if not as_programs_read(Output.JSON if json_ else output, told, names=[each.name for each in traces]):
        _print_stats(stats)
        _print_drift(drift)
        _print_broken(traces)
    if html_path is not None:
        html_path.write_text(trace_page(traces))


@app.command("export")
@plain_errors
def export(
    trace: Annotated[str, typer.Argument(help="Shipped or recorded name, or a file.")],
    to: Annotated[Path, typer.Argument(help="File to write: .csv or .jsonl.")],
    columns: ColumnMap = None,
    data: DataDir = Path(".fleetune"),
) -> None:
    """Write a trace in another format."""
    require_writable(to)
    found = _load(trace, columns, data)
    export_trace(found, to)
    typer.echo(f"{to}: {len(found)} requests")


def _plain(name: str) -> str:
    if not name or any(sign in name for sign in "/\\") or name.startswith("."):
        raise InvalidInput(f"'{name}' is no name for a trace", allowed="letters, digits, -, _ and .")
    return name


def _load(name: str, columns: str | None, data: Path) -> Trace:
    recorded = data / _FOLDER / f"{name}.jsonl"
    return load_trace(str(recorded) if recorded.is_file() else name, _columns(columns))


def _columns(text: str | None) -> Columns | None:
    if text is None:
        return None
    units: dict[str, TimeUnit] = {"s": "s", "ms": "ms", "us": "us", "iso": "iso"}
    arrival, *rest = (part.strip() for part in text.split(","))
    unit = rest[2] if len(rest) == 3 else "s"
    if len(rest) not in (2, 3) or unit not in units:
        raise InvalidInput(f"column map '{text}' is not understood", allowed="arrival,prompt,output[,s|ms|us|iso]")
    return Columns(arrival, rest[0], rest[1], unit=units[unit])


def _print_stats(stats: list[TraceStats]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, values in _lines(stats):
        table.add_row(label, *values)
    console.print(table)


def _lines(stats: list[TraceStats]) -> list[tuple[str, list[str]]]:
    def row(label: str, *values: str) -> tuple[str, list[str]]:
        return label, list(values)

    return [
        row("trace", *(each.name for each in stats)),
        row("requests", *(f"{each.requests}" + (f" ({each.broken} broken)" if each.broken else "") for each in stats)),
        row("duration, s", *(f"{each.duration_s:.1f}" for each in stats)),
        row("rate, requests/s", *(f"{each.mean_rps:.3g} (peak {each.peak_rps:.3g})" for each in stats)),
        row("variation of gaps", *(f"{each.gap_variation:.2f} (1: Poisson)" for each in stats)),
        row("dispersion per 10 s", *(f"{each.dispersion_10s:.2f} (1: Poisson)" for each in stats)),
        row("prompt tokens", *(_lengths(each, "prompt_tokens") for each in stats)),
        row("output tokens", *(_lengths(each, "output_tokens") for each in stats)),
        row("length correlation", *(f"{each.length_correlation:+.2f}" for each in stats)),
        row("shared prefix", *(_maybe(each.prefix_share, "{:.1%} of prompt tokens") for each in stats)),
        row("sessions", *(_maybe(each.sessions, "{}") for each in stats)),
        row("turns, mean", *(_maybe(each.turns_mean, "{:.1f}") for each in stats)),
    ]


def _lengths(stats: TraceStats, name: str) -> str:
    found = stats.prompt_tokens if name == "prompt_tokens" else stats.output_tokens
    return f"mean {found.mean:.0f}, P50 {found.p50:.0f}, P90 {found.p90:.0f}, P99 {found.p99:.0f}, max {found.max}"


def _maybe(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _print_broken(traces: list[Trace]) -> None:
    for each in traces:
        if each.broken:
            what = f"{each.broken} broken rows of {each.name} are left out; the first: {each.first_broken}"
            console.print(what, style="yellow", highlight=False, markup=False)


def _print_drift(drift: list[Drift]) -> None:
    for each in drift:
        verdict = "[yellow]drifted[/]" if each.drifted else "alike"
        console.print(
            f"{each.name}: {each.first:.4g} → {each.second:.4g}, distance {each.distance:.3f}: {verdict}",
            highlight=False,
        )
