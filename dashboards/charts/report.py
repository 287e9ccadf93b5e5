"""Charts of a load report: percentiles of every latency with their intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from controlplane.domain.report import Distribution, LoadTestReport
from dashboards import theme
from dashboards.charts.drawn import drawn_once

METRICS: tuple[tuple[str, str, str], ...] = (
    ("ttft_ms", "TTFT", theme.STABLE),
    ("tpot_ms", "TPOT", theme.WINNER),
    ("itl_ms", "ITL", theme.BASELINE),
    ("e2e_ms", "E2E", theme.CANARY),
)


@drawn_once
def percentiles(report: LoadTestReport, names: Sequence[str]) -> go.Figure:
    """Latency against percentile (further right is rarer), with 95 % intervals and the limits."""
    figure = go.Figure()
    for name, title, colour in METRICS:
        if name in names:
            _add(figure, getattr(report, name), title, colour)
    for check in report.slo_checks:
        if check.slo.metric.value in names:
            title = f"limit P{check.slo.percentile:g} {check.slo.limit_ms:g} ms"
            theme.limit_line(figure, check.slo.limit_ms, title)
    theme.styled(figure, x="percentile", y="milliseconds", height=320, legend=len(names) > 1)
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _add(figure: go.Figure, distribution: Distribution, title: str, colour: str) -> None:
    points = distribution.percentiles
    figure.add_scatter(
        x=[f"P{p.percentile:g}" for p in points],
        y=[p.value for p in points],
        mode="lines+markers",
        line={"color": colour, "width": 2.4},
        marker={"size": 9},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [0 if p.high is None else max(0.0, p.high - p.value) for p in points],
            "arrayminus": [0 if p.high is None else max(0.0, p.value - p.low) for p in points],  # open ends: no bar
            "color": colour,
            "thickness": 1.4,
        },
        name=title,
        hovertemplate="%{x} %{y:,.1f} ms<extra>" + title + "</extra>",
    )
