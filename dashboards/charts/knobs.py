"""Charts of what the knobs did in a study: every trial at each value, and what a flag is worth. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.studies.importance import Importance
from controlplane.domain.studies.study import Study, Trial, TrialKind, TrialState
from dashboards import theme
from dashboards.charts.drawn import drawn_once
from dashboards.charts.study import role

DEFAULT = "(default)"
EFFECTS_HELP = "each point is one trial (other flags differ too); × did not start, or misses limits"
IMPORTANCE_HELP = (
    "cost per request at the worst value tried over the best, with 95 % interval; hollow: only changed together with "
    "another knob, so which of them it was is not known"
)


@drawn_once
def knob_effects(study: Study, trials: Sequence[Trial]) -> go.Figure | None:
    """One panel per flag that varied: the capacity of every trial at each of its values. None when nothing varied."""
    finished = [
        trial
        for trial in trials
        if trial.state in (TrialState.FEASIBLE, TrialState.INFEASIBLE) and trial.kind is not TrialKind.CONFIRM_FLEET
    ]
    varied = varied_flags(finished)
    if not varied:
        return None
    columns = min(3, len(varied))
    rows = -(-len(varied) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=varied, shared_yaxes=True, vertical_spacing=0.5 / (rows + 1)
    )
    for index, flag in enumerate(varied):
        where = {"row": index // columns + 1, "col": index % columns + 1}
        for trial in finished:
            figure.add_trace(_knob_point(study, trial, flag), **where)
        order = sorted({_value(trial, flag) for trial in finished}, key=_sort_key)
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, **where)
    theme.styled(figure, x="", y="", height=60 + 210 * rows, legend=False)
    figure.update_layout(margin={"t": 34})
    figure.update_annotations(font={"size": 13, "color": theme.INK})
    figure.update_yaxes(title={"text": "capacity, req/s"}, rangemode="tozero", col=1)
    return figure


@drawn_once
def importance(found: Sequence[Importance]) -> go.Figure:
    """What each flag is worth in cost per request, largest first, with its interval and the best value."""
    labels = [f"{item.flag}, best {DEFAULT if item.best is None else _text(item.best)}" for item in found]
    figure = go.Figure(
        go.Scatter(
            x=[100 * item.effect for item in found],
            y=labels,
            mode="markers",
            marker={
                "color": theme.STABLE,
                "size": 12,
                "symbol": ["circle" if item.told_apart else "circle-open" for item in found],
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * (item.high - item.effect) for item in found],
                "arrayminus": [100 * (item.effect - item.low) for item in found],
                "color": theme.MUTED,
                "thickness": 1.5,
            },
            hovertemplate="%{x:.0f} % dearer at its worst value<extra></extra>",
        )
    )
    theme.styled(figure, x="cost per request, % dearer", y="", height=90 + 34 * len(found), legend=False)
    figure.update_xaxes(rangemode="tozero", ticksuffix=" %")
    figure.update_yaxes(autorange="reversed")
    return figure


def varied_flags(trials: Sequence[Trial]) -> list[str]:
    """Return the flags that differ between trials, sorted."""
    names = {name for trial in trials for name in trial.config.flags}
    return sorted(name for name in names if len({_value(trial, name) for trial in trials}) > 1)


def _knob_point(study: Study, trial: Trial, flag: str) -> go.Scatter:
    dead = trial.capacity is None
    _, colour = role(study, trial)
    return go.Scatter(
        x=[_value(trial, flag)],
        y=[0 if trial.capacity is None else trial.capacity.rps],
        mode="markers",
        marker={
            "symbol": "x-thin" if dead else "circle",
            "size": 10,
            "color": colour,
            "line": {"color": theme.WARN if dead else "white", "width": 2 if dead else 1},
        },
        hovertemplate=f"trial {trial.number}<br>%{{x}}<br>"
        + (f"{trial.state.value}" if dead else "%{y:.2f} req/s")
        + "<extra></extra>",
        opacity=0.9,
        cliponaxis=False,
    )


def _value(trial: Trial, flag: str) -> str:
    value = trial.config.flags.get(flag)
    return DEFAULT if value is None else _text(value)


def _text(value: FlagValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sort_key(value: str) -> tuple[int, float, str]:
    if value == DEFAULT:
        return (0, 0.0, "")
    try:
        return (1, float(value), "")
    except ValueError:
        return (2, 0.0, value)
