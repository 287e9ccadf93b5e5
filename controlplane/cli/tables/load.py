"""What load tests print: tables of figures with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from controlplane.cli.tables.show import console
from controlplane.domain.enough import samples_needed
from controlplane.domain.report import Distribution, LoadTestReport, Percentile, SloCheck
from loadtests.measure.compare import Comparison
from loadtests.measure.intervals import missing_for_claim
from loadtests.selfcheck import CheckRow

_METRICS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("itl_ms", "ITL"), ("e2e_ms", "E2E"), ("lag_ms", "lag"))


def print_report(report: LoadTestReport) -> None:
    """Print one report."""
    lapse = "" if report.time_lapse == 1 else f", emulated time ({report.time_lapse:g} s per second)"
    console.print(
        f"[bold]{report.requests}[/] requests at {report.rate_rps:g}/s in {report.duration_s:.1f} s{lapse}: "
        f"{report.completed} completed, {report.errors} errors{_errors(report)}",
        highlight=False,
    )
    console.print(
        f"throughput {report.throughput_rps:.2f} requests/s, {report.output_tps:.0f} output tokens/s; "
        f"goodput {report.goodput_rps:.2f} requests/s (attainment {100 * report.attainment:.2f} %)",
        highlight=False,
    )
    console.print(_latencies(report))
    if report.completed and not report.ttft_ms.count:
        console.print("[yellow]no TTFT and no TPOT: no answer came as a stream[/]", highlight=False)
    for reason in _unclaimed(report):
        console.print(f"[yellow]{reason}[/]", highlight=False)
    for check in report.slo_checks:
        verdict = _verdict(check, report.requests)
        console.print(
            f"{check.slo}: {verdict}, {100 * check.miss_ratio:.2f} % missed it "
            f"({100 * check.miss_ratio_low:.2f} to {100 * check.miss_ratio_high:.2f} %)",
            highlight=False,
        )
    if report.stopped_early:
        console.print(f"[yellow]ended early:[/] {report.stopped_early}", highlight=False)
    if report.invalid_reason:
        console.print(f"[red]invalid:[/] {report.invalid_reason}", highlight=False)


def _verdict(check: SloCheck, requests: int) -> str:
    if not check.met:
        return "[red]missed[/]"
    if check.is_shown(requests):
        return "[green]met[/]"
    return f"[yellow]not shown by {requests} requests, {check.needed(requests)} are needed[/]"


def _unclaimed(report: LoadTestReport) -> list[str]:
    """Say once per percentile why it is not claimed, for the requests that completed."""
    found = report.e2e_ms
    return [reason for each in found.percentiles if (reason := missing_for_claim(each.percentile, found.count))]


def _errors(report: LoadTestReport) -> str:
    named = ", ".join(f"{name} {count}" for name, count in report.error_counts.items())
    return f" ({named})" if named else ""


def _latencies(report: LoadTestReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("ms", "count", "mean", "P50", "P90", "P95", "P99"):
        table.add_column(title, justify="left" if title == "ms" else "right")
    for name, label in _METRICS:
        found: Distribution = getattr(report, name)
        mean = "–" if found.mean is None else _short(found.mean)
        table.add_row(label, str(found.count), mean, *(_cell(each, found.count) for each in found.percentiles))
    return table


def _cell(found: Percentile, count: int) -> str:
    if missing_for_claim(found.percentile, count):
        return f"needs {samples_needed(found.percentile)}"  # too few requests to bound it from above: no claim
    high = "?" if found.high is None else _short(found.high)
    return f"{_short(found.value)} ({_short(found.low)}–{high})"


def _short(ms: float) -> str:
    """Tenths only where they tell something: a table cut off by a narrow terminal tells nothing."""
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def print_selfcheck(rows: Sequence[CheckRow]) -> None:
    """Print how far off the generator was at each rate, and what it can hold; 80 columns hold it.

    P99 errors in per cent; P99 lag of the generator and P99 lateness of an idle timer (the host's own) in ms.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("req/s", "tokens/s", "TTFT %", "TPOT %", "ITL %", "E2E %", "lag", "idle", "CPU %", "steal %", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        errors = (row.ttft_error, row.tpot_error, row.itl_error, row.e2e_error)
        table.add_row(
            f"{row.rate_rps:g}",
            f"{row.tokens_per_s:.0f}",
            *(f"{100 * each:+.1f}" for each in errors),
            f"{row.lag_p99_ms:.2f}",
            f"{row.timer_late_ms:.1f}",
            f"{row.cpu_percent:.0f}",
            f"{row.steal_percent:.0f}",
            "holds" if row.holds else "[red]not[/]",
        )
    console.print(table)
    for row in rows:
        if not row.holds:
            console.print(f"{row.rate_rps:g} requests/s: {row.reason}", soft_wrap=True)
    best = max((row.rate_rps for row in rows if row.holds), default=None)
    console.print(
        "The generator holds no rate tried." if best is None else f"The generator holds {best:g} requests/s here."
    )


def print_comparison(rows: Sequence[Comparison]) -> None:
    """Print differences, second run minus first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("figure", "first", "second", "difference", "95 % interval", ""):
        table.add_column(title, justify="right")
    for row in rows:
        told = "" if row.low <= 0 <= row.high else "[yellow]differs[/]"
        table.add_row(
            row.name,
            f"{row.first:.4g}",
            f"{row.second:.4g}",
            f"{row.difference:+.4g}",
            f"{row.low:+.4g} to {row.high:+.4g}",
            told,
        )
    console.print(table)
