"""Charts of what a rollout's looks found as time went on: intervals, and the share that gateways really had. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import plotly.graph_objects as go

from controlplane.domain.rollouts.looks import Look, SeenInterval
from dashboards import theme
from dashboards.charts.drawn import drawn_once

_TITLES = {"slo_miss_ratio": "SLO misses", "error_ratio": "Errors", "refusal_ratio": "Refusals (4xx)"}


def names(looks: Sequence[Look]) -> list[tuple[str, str]]:
    """Return the comparisons that were seen, with what each is called."""
    seen = {each.name for look in looks for each in look.intervals}
    return [(name, title) for name, title in _TITLES.items() if name in seen]


@drawn_once
def intervals(looks: Sequence[Look], name: str) -> go.Figure:
    """Canary minus stable in percentage points, look by look: users' requests and replayed ones, and the margin."""
    figure = go.Figure()
    for replayed, said, colour in ((False, "users", theme.STABLE), (True, "replayed", theme.CANARY)):
        seen = [
            (look, each) for look in looks for each in look.intervals if (each.name, each.replayed) == (name, replayed)
        ]
        if seen:
            _add_bars(figure, seen, said, colour)
    margins = [(look.at, each.margin) for look in looks for each in look.intervals if each.name == name]
    figure.add_scatter(
        x=[at for at, _ in margins],
        y=[100 * margin for _, margin in margins],
        mode="lines",
        line={"color": theme.LIMIT, "width": 1.6, "dash": "dot"},
        name="margin",
        hovertemplate="margin %{y:.1f} points<extra></extra>",
    )
    figure.add_hline(y=0, line={"color": theme.FAINT, "width": 1.2})
    theme.styled(figure, x="UTC", y="canary − stable, points", height=260)
    return figure


def _add_bars(figure: go.Figure, seen: Sequence[tuple[Look, SeenInterval]], said: str, colour: str) -> None:
    """An interval is a bar from its low to its high end, in percentage points."""
    figure.add_scatter(
        x=[look.at for look, _ in seen],
        y=[50 * (each.low + each.high) for _, each in seen],
        error_y={
            "type": "data",
            "array": [50 * (each.high - each.low) for _, each in seen],
            "color": colour,
            "width": 3,
        },
        mode="markers",
        marker={"size": 5, "color": colour},
        name=said,
        customdata=[[100 * each.low, 100 * each.high] for _, each in seen],
        hovertemplate="%{customdata[0]:+.1f} to %{customdata[1]:+.1f} points<extra>" + said + "</extra>",
    )


def add_seen_weights(figure: go.Figure, looks: Sequence[Look]) -> None:
    """Draw the lowest and the highest share that any gateway had, where one answered, over what was asked for."""
    for which, pick in (("lowest", min), ("highest", max)):
        seen = [
            (look.at, pick(told)) for look in looks if (told := [each for each in look.weights if each is not None])
        ]
        if seen:
            figure.add_scatter(
                x=[at for at, _ in seen],
                y=[weight for _, weight in seen],
                mode="lines",
                line={"shape": "hv", "color": theme.INK, "width": 1.2, "dash": "dot"},
                name=f"{which} at a gateway",
                hovertemplate="%{y} %<extra>" + which + " at a gateway</extra>",
            )


def seen_shares(looks: Sequence[Look]) -> list[tuple[datetime, str, str]]:
    """Return when the share of the traffic changed, what each gateway had, and the share of arrivals by then."""
    rows: list[tuple[datetime, str, str]] = []
    for before, look in zip([None, *looks], looks, strict=False):
        if before is None or before.weights != look.weights or look is looks[-1]:
            arrived = "–" if look.arrived_share is None else f"{100 * look.arrived_share:.1f} %"
            rows.append((look.at, ", ".join(map(_percent, look.weights)) or "no gateway", arrived))
    return rows


def _percent(weight: int | None) -> str:
    return "no answer" if weight is None else f"{weight} %"
