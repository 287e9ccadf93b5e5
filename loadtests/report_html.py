"""One self-contained HTML page per load test: the figures and the plots behind them."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

from controlplane.domain.report import Distribution, LoadTestReport, Percentile
from loadtests.intervals import missing_for_claim
from loadtests.records import RecordTable

_METRICS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("itl_ms", "ITL"), ("e2e_ms", "E2E"), ("lag_ms", "schedule lag"))
_MOST_POINTS = 20_000  # in one scatter plot; more are thinned evenly and the page says so
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#1c2733}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #dde3ea}
td:first-child,th:first-child{text-align:left}.bad{background:#fdeaea;border-left:4px solid #c62828;padding:.6em 1em}
.note{color:#5a6b7b}small{color:#5a6b7b}
"""


def report_page(report: LoadTestReport, records: RecordTable, *, title: str) -> str:
    """Return the page. Latencies in ms, time in seconds since the start, both emulated when there was a time lapse."""
    figures = (
        _over_time(records),
        _rate_and_in_flight(records),
        _cdfs(records),
        _ttft_against_prompt(records),
    )
    plots = "".join(
        pio.to_html(figure, full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{_notes(report, len(records))}{_summary(report)}{_latencies(report)}"
        f"{_limits(report)}{plots}</html>"
    )


def _notes(report: LoadTestReport, records: int) -> str:
    notes = []
    if report.invalid_reason:
        notes.append(f"<p class=bad><b>Invalid:</b> {html.escape(report.invalid_reason)}</p>")
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
        f"<tr><td>{label}, ms<td>{each.count}<td>{'–' if each.mean is None else f'{each.mean:.1f}'}"
        + "".join(f"<td>{_percentile(p, each.count)}" for p in each.percentiles)
        for label, each in found
    )
    return f"<table><tr><th>latency<th>count<th>mean{head}{body}</table>"


def _percentile(found: Percentile, count: int) -> str:
    if missing := missing_for_claim(found.percentile, count):
        return f"<small>{missing}</small>"
    high = "?" if found.high is None else f"{found.high:.1f}"
    return f"{found.value:.1f}<br><small>{found.low:.1f} – {high}</small>"


def _limits(report: LoadTestReport) -> str:
    if not report.slo_checks:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(str(check.slo))}<td>{'met' if check.met else '<b>missed</b>'}"
        f"<td>{100 * check.miss_ratio:.2f} %<br><small>{100 * check.miss_ratio_low:.2f} – "
        f"{100 * check.miss_ratio_high:.2f} %</small>"
        for check in report.slo_checks
    )
    return f"<table><tr><th>limit<th>verdict<th>requests that missed it{rows}</table>"


def _thinned(records: RecordTable) -> RecordTable:
    if len(records) <= _MOST_POINTS:
        return records
    kept = np.zeros(len(records), dtype=np.bool_)
    kept[np.linspace(0, len(records) - 1, _MOST_POINTS).astype(int)] = True
    return records.where(kept)


def _figure(
    title: str, x: str, y: str, traces: Sequence[go.Scattergl | go.Scatter], *, log_y: bool = False
) -> go.Figure:
    figure = go.Figure(list(traces))
    figure.update_layout(title=title, xaxis_title=x, yaxis_title=y, template="plotly_white", height=380)
    if log_y:
        figure.update_yaxes(type="log")
    return figure


def _over_time(records: RecordTable) -> go.Figure:
    shown = _thinned(records)
    traces = [
        go.Scattergl(x=shown.scheduled_s, y=getattr(shown, name), mode="markers", name=label, marker={"size": 4})
        for name, label in (("ttft_ms", "TTFT"), ("e2e_ms", "E2E"), ("tpot_ms", "TPOT"))
    ]
    return _figure("Latency over time", "scheduled instant, s", "ms", traces, log_y=True)


def _rate_and_in_flight(records: RecordTable) -> go.Figure:
    ends = records.scheduled_s + np.nan_to_num(records.e2e_ms) / 1e3
    moments = np.concatenate((records.scheduled_s, ends))
    changes = np.concatenate((np.ones(len(records)), -np.ones(len(records))))
    order = np.argsort(moments, kind="stable")
    step = max(1, len(order) // _MOST_POINTS)
    in_flight = go.Scatter(
        x=moments[order][::step], y=np.cumsum(changes[order])[::step], name="in flight", line={"shape": "hv"}
    )
    span = float(moments.max()) if len(moments) else 1.0
    edges = np.linspace(0, span, 61)
    counts, _ = np.histogram(records.scheduled_s, bins=edges)
    rate = go.Scatter(x=edges[:-1], y=counts / (edges[1] - edges[0] or 1), name="arrivals/s", line={"shape": "hv"})
    return _figure("Requests in flight and arrival rate", "s", "requests, requests/s", [in_flight, rate])


def _cdfs(records: RecordTable) -> go.Figure:
    traces = []
    for name, label in (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E")):
        values = getattr(records, name)
        if len(ordered := np.sort(values[~np.isnan(values)])):
            shares = np.linspace(0, 1, min(1000, len(ordered)))
            traces.append(go.Scatter(x=np.quantile(ordered, shares), y=100 * shares, name=label))
    figure = _figure("How many requests were faster", "ms", "% of requests", traces)
    figure.update_xaxes(type="log")
    return figure


def _ttft_against_prompt(records: RecordTable) -> go.Figure:
    shown = _thinned(records)
    points = go.Scattergl(x=shown.prompt_tokens, y=shown.ttft_ms, mode="markers", marker={"size": 4}, name="TTFT")
    return _figure("TTFT against prompt length", "prompt tokens", "ms", [points], log_y=True)
