"""Charts of a rollout: the canary's weight over time, and what its verdict rests on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import plotly.graph_objects as go

from controlplane.domain.rollouts.analysis import Analysis, Comparison, Verdict
from controlplane.domain.rollouts.looks import Look
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState
from dashboards import theme
from dashboards.charts.drawn import drawn_once
from dashboards.charts.looks import add_seen_weights

_NAMES = {"slo_miss_ratio": "SLO misses", "error_ratio": "errors", "refusal_ratio": "refusals (4xx)"}


def weights(rollout: Rollout, now: datetime, looks: Sequence[Look] = ()) -> go.Figure:
    """The canary's share of traffic over time, as asked for and as the gateways had it; marks where verdicts fell."""
    end = rollout.finished_at or now
    times, values = [rollout.created_at], [0]
    for step in rollout.steps:
        times.append(step.started_at)
        values.append(step.weight_percent)
    times.append(end)
    values.append(rollout.weight_percent if rollout.state is not RolloutState.ABORTING else 0)
    figure = go.Figure(
        go.Scatter(
            x=times,
            y=values,
            mode="lines",
            line={"shape": "hv", "color": theme.CANARY, "width": 2.6},
            fill="tozeroy",
            fillcolor="rgba(217,138,43,0.14)",
            name="canary's share",
            hovertemplate="%{y} %<extra>canary</extra>",
        )
    )
    judged = [step for step in rollout.steps if step.finished_at is not None and step.analysis is not None]
    figure.add_scatter(
        x=[step.finished_at for step in judged],
        y=[step.weight_percent for step in judged],
        mode="markers+text",
        text=[step.analysis.verdict.value for step in judged if step.analysis],
        textposition="top center",
        marker={"size": 10, "color": [_verdict_colour(step.analysis) for step in judged if step.analysis]},
        name="verdict",
        hoverinfo="skip",
        cliponaxis=False,
    )
    add_seen_weights(figure, looks)
    theme.styled(figure, x="UTC", y="canary's share of requests, %", height=280, legend=False)
    figure.update_yaxes(range=[0, 116], tickvals=[0, 20, 50, 100])
    if rollout.state not in ROLLOUT_FINAL:
        figure.update_xaxes(range=[rollout.created_at, now])
    return figure


@drawn_once
def comparisons(analysis: Analysis) -> go.Figure:
    """Canary minus stable with its interval, in percentage points; the margin it must stay under."""
    figure = go.Figure()
    labels = [_label(c) for c in analysis.comparisons]
    figure.add_scatter(
        x=[100 * c.difference for c in analysis.comparisons],
        y=labels,
        mode="markers",
        marker={"size": 13, "color": [comparison_colour(c) for c in analysis.comparisons]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (c.high - c.difference) for c in analysis.comparisons],
            "arrayminus": [100 * (c.difference - c.low) for c in analysis.comparisons],
            "color": theme.INK,
            "thickness": 1.6,
            "width": 6,
        },
        name="difference",
        hovertemplate="%{x:+.2f} points<extra></extra>",
    )
    figure.add_scatter(
        x=[100 * c.margin for c in analysis.comparisons],
        y=labels,
        mode="markers",
        marker={"symbol": "line-ns", "size": 34, "line": {"color": theme.LIMIT, "width": 2}},
        name="margin",
        hovertemplate="margin %{x:.1f} points<extra></extra>",
    )
    figure.add_vline(x=0, line={"color": theme.FAINT, "width": 1.2})
    theme.styled(figure, x="canary − stable, percentage points", y="", height=120 + 56 * len(labels))
    figure.update_yaxes(range=[len(labels) - 0.4, -0.6])
    return figure


def _label(comparison: Comparison) -> str:
    said = _NAMES.get(comparison.name, comparison.name)
    return f"replayed: {said}" if comparison.replayed else said


def comparison_colour(comparison: Comparison) -> str:
    """Green once certainly within the margin, red once certainly beyond it, amber between."""
    if comparison.high <= comparison.margin:
        return theme.GOOD
    return theme.BAD if comparison.certainly_worse else theme.WARN


def _verdict_colour(analysis: Analysis) -> str:
    colours = {Verdict.PASS: theme.GOOD, Verdict.FAIL: theme.BAD, Verdict.INCONCLUSIVE: theme.WARN}
    return colours.get(analysis.verdict, theme.MUTED)
