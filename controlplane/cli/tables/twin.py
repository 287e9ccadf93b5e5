"""How the twin's answers are printed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from controlplane.cli.tables.show import console
from controlplane.domain.operations.what_if import Expected, ExpectedPoint, WhatIfAnswer
from controlplane.domain.words import counted
from tuner.twin.profile import Profile
from tuner.twin.validate import ValidationReport

_BAR = 40
_REPORT_WIDTH = 110  # whole names, also into a file


def print_answer(answer: WhatIfAnswer) -> None:
    """Print a prediction: what it rests on, latencies, capacity, fleet, the curve."""
    rests_on = f"profile {answer.profile} ({answer.origin})"
    console.print(f"[bold]{answer.service}[/bold]  {rests_on}", highlight=False, soft_wrap=True)
    if answer.refusal is not None:
        console.print(f"does not start: {answer.refusal}", style="red", soft_wrap=True)
        return
    if answer.point is not None:
        _print_point(answer.point)
    _print_size(answer)
    for note in answer.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    _print_curve(answer.curve)


def print_profile(profile: Profile) -> None:
    """Print what was fitted and how well."""
    console.print(f"[bold]{profile.name}[/bold]  {profile.gpu}, {profile.model}, vLLM {profile.engine_version}")
    table = _table("term", "measured numbers", "median error")
    for term in profile.fit:
        table.add_row(term.term, str(term.points), f"{term.median_abs_error:.1%}")
    console.print(table, soft_wrap=True)


def print_report(report: ValidationReport) -> None:
    """Print measured against predicted per cell, then what the targets are about."""
    table = _table("engine", "workload", "rate", "metric", "measured", "predicted", "error", "")
    for cell in report.cells:
        numbers = (
            f"{cell.rate_rps:g}",
            cell.metric,
            f"{cell.measured:.1f}",
            f"{cell.predicted:.1f}",
            f"{cell.error:+.1%}",
        )
        table.add_row(cell.id, cell.workload, *numbers, "saturated" if cell.saturated else "")
    (console if console.width >= _REPORT_WIDTH else Console(width=_REPORT_WIDTH)).print(table)
    _print_saturated(report)
    for check in report.kv:
        error = check.predicted_tokens / check.measured_tokens - 1
        fits = "fits" if check.fits else "predicted not to fit"
        console.print(
            f"{check.id}: {fits}, KV tokens {error:+.2%}, profile {check.profile}", highlight=False, soft_wrap=True
        )
    for name in report.left_out:
        console.print(f"left out, a profile was fitted on it: {name}", style="dim", highlight=False, soft_wrap=True)
    for name in report.false_alarms:
        console.print(f"predicted as saturated but held: {name}", style="yellow", highlight=False, soft_wrap=True)
    counted = sum(not cell.saturated for cell in report.cells)
    console.print(
        f"[bold]median error {report.median_abs_error:.1%}, 90th percentile {report.p90_abs_error:.1%}[/bold] over "
        f"{counted} numbers of unsaturated cells; 90 % intervals hold {report.coverage:.0%}",
        highlight=False,
        soft_wrap=True,
    )


def _print_saturated(report: ValidationReport) -> None:
    for cell in report.saturated:
        error = cell.predicted_capacity_rps / cell.measured_capacity_rps - 1
        foreseen = "foreseen" if cell.predicted_saturated else "NOT foreseen"
        console.print(
            f"saturated {cell.id} {cell.workload} @ {cell.rate_rps:g}: {foreseen}; "
            f"{cell.measured_capacity_rps:.2f}/s leave, predicted {cell.predicted_capacity_rps:.2f} ({error:+.1%})",
            highlight=False,
            soft_wrap=True,
        )


def _print_point(point: ExpectedPoint) -> None:
    saturated = "  [red]saturated[/red]" if point.saturated else ""
    console.print(f"one replica at {point.rate_rps:.3g} requests/s{saturated}", highlight=False, soft_wrap=True)
    table = _table("", "ms", "90 % interval")
    for name, expected in point.latency.items():
        metric, _, percentile = name.partition("_ms_p")
        table.add_row(f"P{percentile} {metric.upper()}", f"{expected.value:.1f}", _span(expected))
    console.print(table, soft_wrap=True)
    console.print(f"KV cache at most {point.kv_usage:.0%} used", highlight=False, soft_wrap=True)


def _print_size(answer: WhatIfAnswer) -> None:
    if answer.capacity is not None:
        capacity = answer.capacity
        span = f"{capacity.low_rps:.3g}-{capacity.high_rps:.3g}"
        console.print(
            f"capacity at the SLOs {capacity.rps:.3g} requests/s per replica ({span})", highlight=False, soft_wrap=True
        )
    if answer.fleet is not None and answer.usd_per_million_tokens is not None:
        fleet = answer.fleet
        console.print(
            f"{counted(fleet.replicas, 'replica')}, {counted(fleet.gpus, 'GPU')}, {fleet.usd_per_hour:.2f} USD/h, "
            f"{answer.usd_per_million_tokens:.3f} USD per million tokens",
            highlight=False,
            soft_wrap=True,
        )


def _print_curve(points: Iterable[ExpectedPoint]) -> None:
    """One line per rate, a bar of P99 TTFT on a scale that ends at the largest unsaturated one."""
    shown = [(point, point.latency["ttft_ms_p99"].value) for point in points if "ttft_ms_p99" in point.latency]
    calm = [value for point, value in shown if not point.saturated]
    longest = max(calm, default=max((value for _, value in shown), default=1.0))
    for point, value in shown:
        bar = "█" * max(1, min(_BAR, round(_BAR * value / longest)))
        colour = "red" if point.saturated else "green"
        console.print(
            f"{point.rate_rps:8.2f} req/s  P99 TTFT {value:9.1f} ms  [{colour}]{bar}[/{colour}]", highlight=False
        )


def _span(expected: Expected) -> str:
    return f"{expected.low:.1f} - {expected.high:.1f}"


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title)
    return table
