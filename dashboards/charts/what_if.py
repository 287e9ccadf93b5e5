"""The twin's latency against rate, with its interval and what was measured. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from controlplane.domain.operations.what_if import WhatIfAnswer
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.study import Trial
from dashboards import theme
from dashboards.charts import study as charts_study
from dashboards.charts.drawn import drawn_once

HELP = "ends where requests queue up for ever"


@drawn_once
def curve(answer: WhatIfAnswer, slo: LatencySlo, measured: Sequence[Trial]) -> go.Figure:
    """Predicted percentile against rate with its 90 % band; every level measured with exactly these flags."""
    name = latency_name(slo)
    points = [(p.rate_rps, p.latency[name]) for p in answer.curve if name in p.latency and not p.saturated]
    rates = [rate for rate, _ in points]
    figure = go.Figure()
    figure.add_scatter(
        x=[*rates, *reversed(rates)],
        y=[*(e.high for _, e in points), *(e.low for _, e in reversed(points))],
        mode="lines",
        fill="toself",
        fillcolor="rgba(217,138,43,0.16)",
        line={"width": 0},
        hoverinfo="skip",
        name="90 % interval",
    )
    figure.add_scatter(
        x=rates,
        y=[e.value for _, e in points],
        mode="lines",
        line={"color": theme.CANARY, "width": 2.4},
        name="twin",
        hovertemplate="%{x:.2f} req/s<br>%{y:,.0f} ms<extra>twin</extra>",
    )
    levels = measured_levels(answer, slo, measured)
    if levels:
        figure.add_scatter(
            x=[rate for rate, _ in levels],
            y=[value for _, value in levels],
            mode="markers",
            marker={"color": theme.STABLE, "size": 10, "line": {"color": "white", "width": 1.5}},
            name="measured",
            hovertemplate="%{x:.2f} req/s<br>%{y:,.0f} ms<extra>measured</extra>",
        )
    theme.limit_line(figure, slo.limit_ms, f"limit {slo.limit_ms:g} ms")
    theme.styled(figure, x="rate of one replica, requests/s", y=f"P{slo.percentile:g}, ms", height=340)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    return figure


def measured_levels(answer: WhatIfAnswer, slo: LatencySlo, trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Return rate and measured percentile of every level run with exactly the asked flags."""
    levels = [level for trial in trials if trial.config == answer.config for level in trial.levels]
    found = [
        (lv.rate_rps, charts_study.measured(getattr(lv.report, slo.metric.value), slo.percentile)) for lv in levels
    ]
    return sorted((rate, value) for rate, value in found if value is not None)


def latency_name(slo: LatencySlo) -> str:
    """Return how a prediction names this SLO's percentile."""
    return f"{slo.metric.value}_p{slo.percentile:g}"
