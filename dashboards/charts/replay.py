"""Chart of a schedule's replays: a latency over time, the baseline it is held against, and where it got worse. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import plotly.graph_objects as go

from controlplane.domain.report import Percentile, Validity
from dashboards import theme
from dashboards.charts.drawn import drawn_once
from dashboards.client import Replay

_ALONE = timedelta(hours=12)  # on either side of a single replay
_RANKS: tuple[tuple[float, str, str], ...] = ((99.0, "P99", theme.STABLE), (50.0, "P50", theme.OTHER))


@drawn_once
def series(replays: Sequence[Replay], metric: str) -> go.Figure:
    """Draw P50 and P99 of `metric` over time, oldest left. Invalid runs say nothing and are left out."""
    valid = sorted((each for each in replays if each.report.validity is Validity.VALID), key=lambda each: each.at)
    figure = go.Figure()
    for rank, title, colour in _RANKS:
        points = [(each, point) for each in valid if (point := _at(each, metric, rank)) is not None]
        _line(figure, points, title, colour)
    _worse(figure, [(each, point) for each in valid if each.regressed and (point := _at(each, metric, 99.0))])
    baseline = baseline_of(valid)
    if baseline is not None and (point := _at(baseline, metric, 99.0)) is not None:
        _baseline(figure, point.value)
    theme.styled(figure, x="UTC", y="milliseconds", height=320)
    figure.update_yaxes(rangemode="tozero")
    if len(valid) == 1:  # else the axis counts its milliseconds
        figure.update_xaxes(range=[valid[0].at - _ALONE, valid[0].at + _ALONE])
    return figure


def baseline_of(replays: Sequence[Replay]) -> Replay | None:
    """Return the newest valid replay that is no regression: what the next one is held against."""
    good = [each for each in replays if not each.regressed and each.report.validity is Validity.VALID]
    return max(good, key=lambda each: each.at, default=None)


def _at(replay: Replay, metric: str, rank: float) -> Percentile | None:
    found: Percentile | None = getattr(replay.report, metric).at(rank)
    return found


def _line(figure: go.Figure, points: Sequence[tuple[Replay, Percentile]], title: str, colour: str) -> None:
    figure.add_scatter(
        x=[each.at for each, _ in points],
        y=[point.value for _, point in points],
        mode="lines+markers",
        line={"color": colour, "width": 2.4},
        marker={"size": 7},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [0 if point.high is None else max(0.0, point.high - point.value) for _, point in points],
            "arrayminus": [0 if point.high is None else max(0.0, point.value - point.low) for _, point in points],
            "color": colour,
            "thickness": 1.2,
            "width": 3,
        },
        name=title,
        hovertemplate="%{x} %{y:,.1f} ms<extra>" + title + "</extra>",
    )


def _worse(figure: go.Figure, points: Sequence[tuple[Replay, Percentile]]) -> None:
    if not points:
        return
    figure.add_scatter(
        x=[each.at for each, _ in points],
        y=[point.value for _, point in points],
        mode="markers",
        marker={"symbol": "circle-open", "size": 17, "color": theme.BAD, "line": {"width": 2.4}},
        name="regressed",
        hoverinfo="skip",
    )


def _baseline(figure: go.Figure, value: float) -> None:
    figure.add_hline(
        y=value,
        line={"color": theme.BASELINE, "width": 1.5, "dash": "dot"},
        annotation={
            "text": f"baseline P99 {value:,.1f} ms",
            "font": {"color": theme.BASELINE, "size": 12},
            "xanchor": "left",
            "x": 0,
        },
        annotation_position="bottom left",
    )
