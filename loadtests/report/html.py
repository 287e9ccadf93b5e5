"""One self-contained HTML page per load test: the figures and the plots behind them."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

from controlplane.domain.enough import samples_needed
from controlplane.domain.report import Distribution, LoadTestReport, Percentile, SloCheck
from loadtests.measure.intervals import missing_for_claim
from loadtests.measure.records import RecordTable
from loadtests.report.plots import log_axis

_METRICS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("itl_ms", "ITL"), ("e2e_ms", "E2E"), ("lag_ms", "schedule lag"))
_COLOURS = {"ttft_ms": "#3c6e9f", "tpot_ms": "#2e8b6f", "e2e_ms": "#d98a2b"}
_LABELS = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2e_ms": "E2E"}
_MOST_POINTS = 20_000  # in one scatter plot; more are thinned evenly and the page says so
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#1c2733}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #dde3ea}
td:first-child,th:first-child{text-align:left}
.bad{background:#fdeaea;border-left:4px solid #c62828;padding:.6em 1em;position:sticky;top:0;z-index:1}
.missed{color:#c62828;font-weight:600}small{white-space:nowrap}
.note{color:#5a6b7b}small{color:#5a6b7b}
"""


def report_page(report: LoadTestReport, records: RecordTable, *, title: str, warmup_s: float = 0.0) -> str:
    """Return the page. Latencies in ms, time in seconds since the start, both emulated when there was a time lapse.

    Requests of the warm-up are shown over time, on grey, and nowhere else.
    """
    measured = records.where(records.scheduled_s >= warmup_s)
    over_time = (_over_time(records), _rate_and_in_flight(records))
    for figure in over_time:
        _mark_warmup(figure, warmup_s)
    figures = (*over_time, _cdfs(measured), _ttft_against_prompt(measured))
    plots = "".join(
        pio.to_html(figure, full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_invalid(report)}{html.escape(title)}</title>"
        f"<style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{_notes(report, len(records))}{_summary(report)}{_latencies(report)}"
        f"{_limits(report)}{plots}</html>"
    )


def _invalid(report: LoadTestReport) -> str:
    return "INVALID – " if report.invalid_reason else ""


def _notes(report: LoadTestReport, records: int) -> str:
    notes = []
    if report.invalid_reason:
        reason = html.escape(report.invalid_reason)
        notes.append(f"<p class=bad><b>Invalid:</b> {reason}. These figures tell of the generator.</p>")
    if report.stopped_early:
        notes.append(f"<p class=note>Ended early: {html.escape(report.stopped_early)}</p>")
    if report.time_lapse != 1:
        notes.append(f"<p class=note>Emulated time, {report.time_lapse:g} seconds per second of the clock.</p>")
    if records > _MOST_POINTS:
        notes.append(f"<p class=note>Scatter plots show {_MOST_POINTS} of {records} requests.</p>")
    return "".join(notes)


def _summary(report: LoadTestReport) -> str:
    rows = [
        ("target", html.escape(report.target)),
        ("offered rate", f"{report.rate_rps:g} requests/s for {report.duration_s:.1f} s, seed {report.seed}"),
        ("requests", f"{report.requests}: {report.completed} completed, {report.errors} errors"),
        ("errors", ", ".join(f"{name} {count}" for name, count in report.error_counts.items()) or "none"),
        ("throughput", f"{report.throughput_rps:.2f} requests/s, {report.output_tps:.0f} output tokens/s"),
        ("goodput", f"{report.goodput_rps:.2f} requests/s, attainment {100 * report.attainment:.2f} %"),
    ]
    return (
        "<table>" + "".join(f"<tr><td>{name}<td style='text-align:left'>{value}" for name, value in rows) + "</table>"
    )


def _latencies(report: LoadTestReport) -> str:
    found: list[tuple[str, Distribution]] = [(label, getattr(report, name)) for name, label in _METRICS]
    ranks = next(([p.percentile for p in each.percentiles] for _, each in found if each.percentiles), [])
    head = "".join(f"<th>P{rank:g}" for rank in ranks)
    body = "".join(
        f"<tr><td>{label}, ms<td>{each.count}<td>{'–' if each.mean is None else _ms(each.mean)}"
        + "".join(f"<td>{_percentile(p, each.count)}" for p in each.percentiles)
        for label, each in found
    )
    note = "<p class=note>Small figures are 95 % intervals; ? stands for no upper bound.</p>"
    return f"<table><tr><th>latency<th>count<th>mean{head}{body}</table>{note}"


def _percentile(found: Percentile, count: int) -> str:
    if missing := missing_for_claim(found.percentile, count):
        return f"<small title='{missing}'>needs {samples_needed(found.percentile)}</small>"
    high = "?" if found.high is None else _ms(found.high)
    return f"{_ms(found.value)}<br><small>{_ms(found.low)} – {high}</small>"


def _ms(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _limits(report: LoadTestReport) -> str:
    if not report.slo_checks:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(str(check.slo))}<td>{_verdict(check, report.requests)}"
        f"<td>{'–' if check.measured is None else _percentile(check.measured, _count(report, check))}"
        f"<td>{100 * check.miss_ratio:.2f} %<br><small>{100 * check.miss_ratio_low:.2f} – "
        f"{100 * check.miss_ratio_high:.2f} %</small>"
        for check in report.slo_checks
    )
    return f"<table><tr><th>limit<th>verdict<th>measured, ms<th>requests that missed it{rows}</table>"


def _verdict(check: SloCheck, requests: int) -> str:
    if not check.met:
        return "<span class=missed>missed</span>"
    return "met" if check.is_shown(requests) else f"not shown: {check.needed(requests):,} requests are needed"


def _count(report: LoadTestReport, check: SloCheck) -> int:
    found: Distribution = getattr(report, check.slo.metric.value)
    return found.count


def _thinned(records: RecordTable) -> RecordTable:
    if len(records) <= _MOST_POINTS:
        return records
    kept = np.zeros(len(records), dtype=np.bool_)
    kept[np.linspace(0, len(records) - 1, _MOST_POINTS).astype(int)] = True
    return records.where(kept)


def _figure(title: str, x: str, y: str, traces: Sequence[go.Scattergl | go.Scatter]) -> go.Figure:
    figure = go.Figure(list(traces))
    margin = {"t": 60, "b": 60, "l": 80, "r": 20}
    layout = {"template": "plotly_white", "height": 380, "margin": margin, "showlegend": len(traces) > 1}
    figure.update_layout(title=title, xaxis_title=x, yaxis_title=y, separators=".,", **layout)
    figure.update_xaxes(tickformat=",")
    return figure


def _mark_warmup(figure: go.Figure, warmup_s: float) -> None:
    if warmup_s > 0:
        place = {"annotation_text": "warm-up", "annotation_position": "top left"}
        figure.add_vrect(x0=0, x1=warmup_s, fillcolor="#8a97a5", opacity=0.2, line_width=0, **place)


def _over_time(records: RecordTable) -> go.Figure:
    shown = _thinned(records)
    columns = {name: getattr(shown, name) for name in _LABELS}
    traces = [
        go.Scattergl(x=shown.scheduled_s, y=column, mode="markers", name=_LABELS[name], marker=_dots(name))
        for name, column in columns.items()
    ]
    figure = _figure("Latency over time", "scheduled instant, s since the start", "latency, ms", traces)
    figure.update_yaxes(**log_axis(*columns.values()))
    return figure


def _dots(name: str) -> dict[str, object]:
    return {"size": 4, "color": _COLOURS[name]}


def _rate_and_in_flight(records: RecordTable) -> go.Figure:
    whole = records.where(~np.isnan(records.e2e_ms))  # when a failed one ended is not recorded
    moments = np.concatenate((whole.scheduled_s, whole.scheduled_s + whole.e2e_ms / 1e3))
    changes = np.concatenate((np.ones(len(whole)), -np.ones(len(whole))))
    order = np.argsort(moments, kind="stable")
    step = max(1, len(order) // _MOST_POINTS)
    in_flight = go.Scatter(
        x=moments[order][::step],
        y=np.cumsum(changes[order])[::step],
        name="in flight, of the completed",
        line={"shape": "hv", "color": _COLOURS["e2e_ms"]},
    )
    span = float(records.scheduled_s.max()) if len(records) else 1.0
    edges = np.linspace(0, span, 61)
    counts, _ = np.histogram(records.scheduled_s, bins=edges)
    line = {"shape": "hv", "color": _COLOURS["ttft_ms"]}
    rate = go.Scatter(x=edges[:-1], y=counts / (edges[1] - edges[0] or 1), name="arrivals per second", line=line)
    x, y = "s since the start", "requests in flight; requests/s"
    return _figure("Requests in flight and arrival rate", x, y, [in_flight, rate])


def _cdfs(records: RecordTable) -> go.Figure:
    traces = []
    for name, label in _LABELS.items():
        values = getattr(records, name)
        if len(ordered := np.sort(values[~np.isnan(values)])):
            shares = np.linspace(0, 1, min(1000, len(ordered)))
            line = {"color": _COLOURS[name]}
            traces.append(go.Scatter(x=np.quantile(ordered, shares), y=100 * shares, name=label, line=line))
    figure = _figure("How many requests were faster", "latency, ms", "% of completed requests", traces)
    figure.update_xaxes(**log_axis(*(getattr(records, name) for name in _LABELS)))
    return figure


def _ttft_against_prompt(records: RecordTable) -> go.Figure:
    shown = _thinned(records)
    marker = _dots("ttft_ms")
    points = go.Scattergl(x=shown.prompt_tokens, y=shown.ttft_ms, mode="markers", marker=marker, name="TTFT")
    figure = _figure("TTFT against prompt length", "prompt tokens", "TTFT, ms", [points])
    figure.update_yaxes(**log_axis(shown.ttft_ms))
    return figure
