"""Differences of arms with their bounds, and the line of no difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from controlplane.domain.ab_tests.ab_test import AbTest, Compared, Grade
from dashboards import theme
from dashboards.charts.drawn import drawn_once

_ROW_PX = 34
_AROUND_PX = 70


@drawn_once
def intervals(test: AbTest, found: Sequence[Compared], unit: str, *, colours: Mapping[Grade, str]) -> go.Figure:
    """Return one line per comparison: where its difference certainly lies."""
    shown = [each for each in found if each.low is not None and each.high is not None]
    names = [
        f"{each.metric.value.replace('_', ' ')}: {test.named(each.arm)} − {test.named(each.against)}" for each in shown
    ]
    figure = go.Figure()
    for each, name in zip(shown, names, strict=True):
        figure.add_scatter(
            x=[each.low, each.difference, each.high],
            y=[name] * 3,
            mode="lines+markers",
            line={"color": colours[each.grade], "width": 3},
            marker={"size": [1, 9, 1], "color": colours[each.grade]},
            hovertemplate=f"%{{x:+.2f}} {unit}<extra>{each.grade.value}</extra>",
            showlegend=False,
        )
    figure.add_vline(x=0, line={"color": theme.MUTED, "width": 1})
    if found and found[0].metric is test.options.metric:
        for edge in (-test.options.minimum_effect_percent, test.options.minimum_effect_percent):
            figure.add_vline(x=edge, line={"color": theme.FAINT, "width": 1, "dash": "dot"})
    return theme.styled(figure, x=f"difference, {unit}", y="", height=_AROUND_PX + _ROW_PX * len(shown), legend=False)
