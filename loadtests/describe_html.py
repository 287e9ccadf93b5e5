"""Plots of one trace, or of two on top of each other."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import plotly.io as pio

from loadtests.traces import Trace

Floats = npt.NDArray[np.float64]


def trace_page(traces: Sequence[Trace]) -> str:
    """Return a self-contained page: arrival rate over time, and how lengths and gaps are distributed."""
    figures = (
        _rates(traces),
        _cdfs("Prompt length", "tokens", traces, lambda trace: trace.prompt_tokens.astype(np.float64)),
        _cdfs("Output length", "tokens", traces, lambda trace: trace.output_tokens.astype(np.float64)),
        _cdfs("Gap between arrivals", "s", traces, lambda trace: np.diff(trace.arrival_s)),
    )
    plots = "".join(
        pio.to_html(figure, full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)
    )
    title = html.escape(" and ".join(trace.name for trace in traces))
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{plots}</html>"


def _rates(traces: Sequence[Trace]) -> go.Figure:
    figure = go.Figure()
    for trace in traces:
        width = max(1.0, trace.duration_s / 200)
        counts = np.bincount((trace.arrival_s / width).astype(np.int64)) / width
        figure.add_trace(go.Scatter(x=np.arange(len(counts)) * width, y=counts, name=trace.name, line={"shape": "hv"}))
    figure.update_layout(title="Arrivals", xaxis_title="s", yaxis_title="requests/s", template="plotly_white")
    return figure


def _cdfs(title: str, unit: str, traces: Sequence[Trace], column: Callable[[Trace], Floats]) -> go.Figure:
    figure = go.Figure()
    shares = np.linspace(0, 1, 500)
    for trace in traces:
        if len(values := column(trace)):
            figure.add_trace(go.Scatter(x=np.quantile(values, shares), y=100 * shares, name=trace.name))
    figure.update_layout(title=title, xaxis_title=unit, yaxis_title="% of requests", template="plotly_white")
    figure.update_xaxes(type="log")
    return figure
