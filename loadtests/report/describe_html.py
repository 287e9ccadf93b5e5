"""Plots of one trace, or of two on top of each other."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import plotly.io as pio

from loadtests.report.describe import Drift, TraceStats, compare_traces, describe_trace, shared_tokens
from loadtests.report.plots import log_axis
from loadtests.send.traces import Trace

_STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:1100px;margin:2rem auto;color:#20262e}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:4px 14px;border-bottom:1px solid #e8e5df;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.drifted{color:#c0504a;font-weight:600}"
)
_COLOURS = ("#3c6e9f", "#d98a2b")

Floats = npt.NDArray[np.float64]


def trace_page(traces: Sequence[Trace]) -> str:
    """Return a self-contained page: figures, what differs between two traces, and how everything is distributed."""
    figures = (
        _rates(traces),
        _cdfs("Prompt length", "prompt tokens", traces, lambda trace: trace.prompt_tokens.astype(np.float64)),
        _cdfs("Output length", "output tokens", traces, lambda trace: trace.output_tokens.astype(np.float64)),
        _cdfs("Gap between arrivals", "gap, s", traces, lambda trace: np.diff(trace.arrival_s)),
        *([_shared(traces)] if any(trace.blocks is not None for trace in traces) else []),
    )
    plots = "".join(
        pio.to_html(figure, full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)
    )
    title = html.escape(" and ".join(trace.name for trace in traces))
    head = f"<meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    drift = _drift_table(compare_traces(traces[0], traces[1])) if len(traces) == 2 else ""
    tables = _stats_table([describe_trace(trace) for trace in traces]) + drift
    return f"<!doctype html><html lang=en>{head}<h1>{title}</h1>{tables}{plots}</html>"


def _stats_table(stats: Sequence[TraceStats]) -> str:
    def row(label: str, text_of: Callable[[TraceStats], str]) -> list[str]:
        return [label, *(text_of(each) for each in stats)]

    return _table(
        ["", *(each.name for each in stats)],
        [
            row("requests", lambda each: f"{each.requests:,}"),
            row("duration, s", lambda each: f"{each.duration_s:,.0f}"),
            row("requests/s, mean (peak over 10 s)", lambda each: f"{each.mean_rps:.3g} ({each.peak_rps:.3g})"),
            row("variation of gaps (1: Poisson)", lambda each: f"{each.gap_variation:.2f}"),
            row("dispersion per 10 s (1: Poisson)", lambda each: f"{each.dispersion_10s:.2f}"),
            row(
                "prompt tokens, mean (P99)",
                lambda each: f"{each.prompt_tokens.mean:.0f} ({each.prompt_tokens.p99:.0f})",
            ),
            row(
                "output tokens, mean (P99)",
                lambda each: f"{each.output_tokens.mean:.0f} ({each.output_tokens.p99:.0f})",
            ),
            row("shared prefix", lambda each: "unknown" if each.prefix_share is None else f"{each.prefix_share:.1%}"),
            row("sessions", lambda each: "unknown" if each.sessions is None else f"{each.sessions:,}"),
        ],
    )


def _drift_table(drift: Sequence[Drift]) -> str:
    rows = [
        [
            each.name,
            f"{each.first:.4g}",
            f"{each.second:.4g}",
            f"{each.distance:.3f}",
            "drifted" if each.drifted else "",
        ]
        for each in drift
    ]
    return "<h2>What differs</h2>" + _table(["", "first", "second", "distance", ""], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"


def _cell(text: str) -> str:
    return f'<td class="{"drifted" if text == "drifted" else ""}">{html.escape(text)}</td>'


def _shared(traces: Sequence[Trace]) -> go.Figure:
    """How much of each prompt an endless prefix cache would hold."""
    figure = go.Figure()
    shares = np.linspace(0, 1, 500)
    for trace, colour in zip(traces, _COLOURS, strict=False):
        if (shared := shared_tokens(trace)) is not None:
            part = 100 * shared / trace.prompt_tokens
            figure.add_trace(
                go.Scatter(x=np.quantile(part, shares), y=100 * shares, name=trace.name, line={"color": colour})
            )
    figure.update_layout(
        title="Shared prefix", xaxis_title="% of the prompt", yaxis_title="% of requests", template="plotly_white"
    )
    return figure


def _rates(traces: Sequence[Trace]) -> go.Figure:
    figure = go.Figure()
    for trace, colour in zip(traces, _COLOURS, strict=False):
        width = max(1.0, trace.duration_s / 200)
        counts = np.bincount((trace.arrival_s / width).astype(np.int64)) / width
        figure.add_trace(
            go.Scatter(
                x=np.arange(len(counts)) * width, y=counts, name=trace.name, line={"shape": "hv", "color": colour}
            )
        )
    figure.update_layout(
        title="Arrivals", xaxis_title="s since the first request", yaxis_title="requests/s", template="plotly_white"
    )
    return figure


def _cdfs(title: str, unit: str, traces: Sequence[Trace], column: Callable[[Trace], Floats]) -> go.Figure:
    figure = go.Figure()
    shares = np.linspace(0, 1, 500)
    for trace, colour in zip(traces, _COLOURS, strict=False):
        if len(values := column(trace)):
            figure.add_trace(
                go.Scatter(x=np.quantile(values, shares), y=100 * shares, name=trace.name, line={"color": colour})
            )
    figure.update_layout(title=title, xaxis_title=unit, yaxis_title="% of requests", template="plotly_white")
    figure.update_xaxes(**log_axis(*(column(trace) for trace in traces)))
    return figure
