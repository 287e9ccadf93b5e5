"""Charts of live traffic: series per revision with the limit drawn. Pure: values in, figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import plotly.graph_objects as go

from controlplane.domain.operations.live import RANKS, Figures, Live, Quantiles
from controlplane.domain.slo import LatencyMetric, SloSet
from dashboards import theme


class Role(NamedTuple):
    """What a revision is to the service, and its colour everywhere."""

    name: str
    colour: str


Roles = Mapping[str | None, Role]
UNROUTED = Role("no revision", theme.BAD)


def roles(stable: str | None, canary: str | None, seen: tuple[str | None, ...]) -> Roles:
    """Name every revision seen in traffic: stable, canary, or by its own name when it is neither."""
    known: dict[str | None, Role] = {name: Role(str(name), theme.BASELINE) for name in seen}
    if canary is not None:
        known[canary] = Role("canary", theme.CANARY)
    if stable is not None:
        known[stable] = Role("stable", theme.STABLE)
    return known | {None: UNROUTED}


def bold(slos: SloSet, metric: LatencyMetric) -> int:
    """Return the percentile to draw: the highest that is limited for this metric, else P99."""
    limited = [int(slo.percentile) for slo in slos.latency if slo.metric is metric and slo.percentile in RANKS]
    return max(limited, default=99)


def quantile(live: Live, metric: LatencyMetric, names: Roles) -> go.Figure:
    """The limited percentile (bold) and P50 (thin, not in the legend) of a latency, per revision, with its limits."""
    name, rank = metric.value.removesuffix("_ms").upper(), bold(live.slos, metric)
    figure = go.Figure()
    for part in live.revisions:
        if getattr(part.figures, metric.value).count == 0:
            continue  # nothing of this revision was ever answered
        role = names.get(part.revision, UNROUTED)
        for percentile, width in ((rank, 2.4), (50, 1.1)):
            figure.add_trace(_line(live, part.revision, partial(_quantile, metric, percentile), role.colour, width))
            figure.data[-1].update(name=f"{role.name} P{percentile}", showlegend=percentile == rank)
    for slo in live.slos.latency:
        if slo.metric is metric:
            theme.limit_line(figure, slo.limit_ms, f"limit P{slo.percentile:g} {slo.limit_ms:g} ms")
    figure.update_yaxes(rangemode="tozero")
    return _over_time(figure, y=f"{name}, ms")


def rate(live: Live, names: Roles) -> go.Figure:
    """Finished requests per second, stacked by revision, with the target of the service."""
    figure = go.Figure()
    for revision in _revisions(live):
        role = names.get(revision, UNROUTED)
        trace = _line(live, revision, lambda f: f.rps, role.colour, 1.2)
        trace.update(name=role.name, stackgroup="all", line_shape="linear")
        figure.add_trace(trace)
    theme.limit_line(figure, live.slos.target_qps, f"target {live.slos.target_qps:g}/s", layer="above")
    figure.update_yaxes(rangemode="tozero")
    return _over_time(figure, y="requests/s")


def attainment(live: Live, names: Roles) -> go.Figure:
    """Share of requests that met every latency limit, over time, per revision."""
    figure = go.Figure()
    for revision in _revisions(live):
        role = names.get(revision, UNROUTED)
        figure.add_trace(_line(live, revision, _attained_percent, role.colour, 2))
        figure.data[-1].name = role.name
    known = [value for point in live.series if (value := _attained_percent(point.figures)) is not None]
    figure.update_yaxes(range=list(where_it_matters(known)))
    return _over_time(figure, y="attainment, %")


def where_it_matters(percents: Sequence[float]) -> tuple[float, float]:
    """Return the part of 0 to 100 % that shows how the values differ: at least one point, a quarter below the lowest.

    From 0 to 100 % a fall from 99.9 to 98 %, which breaks a P99, is two pixels.
    """
    missing = 100 - min(percents, default=100.0)
    span = min(100.0, max(1.0, 1.25 * missing))
    return 100 - span, 100 + 0.03 * span


def errors(live: Live, names: Roles) -> go.Figure:
    """Errors per interval, per revision."""
    figure = go.Figure()
    for revision in _revisions(live):
        role = names.get(revision, UNROUTED)
        points = [p for p in live.series if p.revision == revision]
        values = [p.figures.errors for p in points]
        figure.add_bar(x=[p.at for p in points], y=values, name=role.name, marker_color=role.colour)
    figure.update_layout(barmode="stack")
    figure.update_yaxes(rangemode="tozero", range=[0, max(5, *(p.figures.errors + 1 for p in live.series), 5)])
    return _over_time(figure, y=f"errors per {live.bucket_s:g} s")


def _over_time(figure: go.Figure, *, y: str) -> go.Figure:
    theme.styled(figure, x="UTC", y=y, height=250)
    figure.update_xaxes(tickformat="%H:%M:%S", nticks=6)
    return figure


def _quantile(metric: LatencyMetric, percentile: int, figures: Figures) -> float | None:
    found: Quantiles = getattr(figures, metric.value)
    return found.at(percentile)


def _attained_percent(figures: Figures) -> float | None:
    return None if figures.attainment is None else figures.attainment * 100


def _revisions(live: Live) -> list[str | None]:
    return [part.revision for part in live.revisions]


def _line(
    live: Live, revision: str | None, value: Callable[[Figures], float | None], colour: str, width: float
) -> go.Scatter:
    points = [p for p in live.series if p.revision == revision]
    return go.Scatter(
        x=[p.at for p in points],
        y=[value(p.figures) for p in points],
        mode="lines",
        line={"color": colour, "width": width},
        connectgaps=False,
        hovertemplate="%{y:.1f}<extra>%{fullData.name}</extra>",
    )
