"""Charts of a study: what every level measured, what was worth its money, what a replica sustains. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from controlplane.domain.report import Distribution
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.studies.study import Study, Trial, TrialKind
from dashboards import theme, words
from dashboards.charts.drawn import drawn_once

CURVES_HELP = "hollow: level missed a limit; pale: other trials"
CAPACITY_HELP = "with 95 % interval; the twin's prediction was made before the engine was started"


@drawn_once
def latency_throughput(study: Study, trials: Sequence[Trial], slo: LatencySlo) -> go.Figure:
    """The SLO's percentile against the offered rate, one line per trial; hollow points are levels that failed."""
    figure = go.Figure()
    lowest = highest = slo.limit_ms
    for trial in sorted(trials, key=lambda t: role(study, t)[0] != _OTHER):
        points = sorted(
            (level.each_rps(trial), value, level.passed)
            for level in trial.levels
            if (value := measured(getattr(level.report, slo.metric.value), slo.percentile)) is not None
        )
        lowest = min([lowest, *(value for _, value, _ in points if value > 0)])
        highest = max([highest, *(value for _, value, _ in points)])
        figure.add_trace(_curve(study, trial, points))
    theme.limit_line(figure, slo.limit_ms, f"limit {slo.limit_ms:g} ms")
    theme.styled(figure, x="offered rate, requests/s per replica", y=f"{words.percentile(slo)}, ms", height=380)
    figure.update_xaxes(rangemode="tozero")
    if highest > 6 * slo.limit_ms:
        ticks = steps_of_one_two_five(lowest, highest)
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,g}" for tick in ticks])
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def steps_of_one_two_five(lowest: float, highest: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten that span two positive values, one step beyond either included.

    Plotly itself labels a logarithmic axis of less than a decade with one number or none.
    """
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    every = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
    below = max((each for each in every if each <= lowest), default=every[0])
    above = min((each for each in every if each >= highest), default=every[-1])
    return [each for each in every if below <= each <= above]


@drawn_once
def pareto(study: Study, trials: Sequence[Trial], slo: LatencySlo) -> go.Figure:
    """Cost of the fleet at the target against latency at the highest rate that passed, with the Pareto front."""
    figure = go.Figure()
    points = [(t, *at) for t in trials if t.kind in _CHOSEN and (at := cost_and_latency(t, slo)) is not None]
    front = _front([(cost, latency) for _, cost, latency in points])
    if len(front) > 1:
        figure.add_scatter(
            x=[x for x, _ in front],
            y=[y for _, y in front],
            mode="lines",
            line={"color": theme.FAINT, "width": 2, "shape": "hv"},
            name="Pareto front",
            hoverinfo="skip",
        )
    for trial, cost, latency in points:
        name, colour = role(study, trial)
        figure.add_scatter(
            x=[cost],
            y=[latency],
            mode="markers+text",
            text=[f"#{trial.number}"],
            textposition="top center",
            textfont={"color": theme.MUTED, "size": 11},
            marker={"color": colour, "size": 13, "line": {"color": "white", "width": 1.5}},
            name=name,
            showlegend=name != _OTHER and not any(t.name == name for t in figure.data),
            hovertemplate=f"trial {trial.number}<br>%{{x:$,.2f}} per hour<br>%{{y:,.0f}} ms<extra></extra>",
        )
    theme.limit_line(figure, slo.limit_ms, f"limit {slo.limit_ms:g} ms")
    theme.styled(figure, x="fleet cost at the target rate, USD per hour", y=f"{words.percentile(slo)}, ms", height=380)
    figure.update_xaxes(tickprefix="$", rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    return figure


@drawn_once
def capacities(study: Study, trials: Sequence[Trial]) -> go.Figure:
    """Capacity of one replica per trial with its interval, beside what the twin had predicted."""
    known = [t for t in trials if t.capacity is not None]
    labels = [trial_label(t) for t in known]
    figure = go.Figure()
    values = [t.capacity for t in known if t.capacity is not None]
    figure.add_scatter(
        x=[c.rps for c in values],
        y=labels,
        mode="markers",
        marker={"color": [role(study, t)[1] for t in known], "size": 12},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, c.high_rps - c.rps) for c in values],
            "arrayminus": [max(0.0, c.rps - c.low_rps) for c in values],
            "color": theme.MUTED,
            "thickness": 1.5,
        },
        name="measured",
        hovertemplate="%{x:.2f} req/s<extra>measured</extra>",
    )
    predicted = [(t.predicted["capacity_rps"], trial_label(t)) for t in known if "capacity_rps" in t.predicted]
    if predicted:
        figure.add_scatter(
            x=[x for x, _ in predicted],
            y=[y for _, y in predicted],
            mode="markers",
            marker={"symbol": "line-ns", "size": 14, "line": {"color": theme.CANARY, "width": 2.5}},
            name="twin's prediction",
            hovertemplate="%{x:.2f} req/s<extra>twin</extra>",
        )
    _mark_earlier(figure, study, known)
    theme.styled(figure, x="capacity of one replica, requests/s", y="", height=110 + 34 * len(known))
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return figure


def _mark_earlier(figure: go.Figure, study: Study, known: Sequence[Trial]) -> None:
    """Add what the study it began with had measured of the same configurations."""
    if study.warm_start is None:
        return
    earlier = {each.config.content_hash(): each.rps for each in study.warm_start.capacities}
    points = [(earlier[t.config.content_hash()], trial_label(t)) for t in known if t.config.content_hash() in earlier]
    if points:
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="markers",
            marker={"symbol": "diamond-open", "size": 11, "color": theme.MUTED, "line": {"width": 1.8}},
            name=f"{study.warm_start.study_id} had measured (prior)",
            hovertemplate="%{x:.2f} req/s<extra>earlier study</extra>",
        )


_OTHER = "other trials"
_CHOSEN = (TrialKind.BASELINE, TrialKind.SEARCH)


def role(study: Study, trial: Trial) -> tuple[str, str]:
    """Return what a trial is in its study and the colour of that role."""
    if trial.kind in (TrialKind.BASELINE, TrialKind.CONFIRM_BASELINE):
        return "baseline", theme.BASELINE
    if is_winner(study, trial):
        return "winner", theme.WINNER
    return _OTHER, theme.OTHER


def is_winner(study: Study, trial: Trial) -> bool:
    """Say whether the trial ran the recommended configuration."""
    found = study.recommendation
    return found is not None and found.improvement and trial.config == found.config


def trial_label(trial: Trial) -> str:
    return f"#{trial.number} {words.TRIAL_KIND[trial.kind]}" + (f" × {trial.replicas}" if trial.replicas > 1 else "")


def measured(distribution: Distribution, percentile: float) -> float | None:
    """Return a percentile's value, None when it was not computed."""
    found = distribution.at(percentile)
    return None if found is None else found.value


def cost_and_latency(trial: Trial, slo: LatencySlo) -> tuple[float, float] | None:
    """Return fleet cost (USD per hour) and the SLO's percentile at the highest rate that passed, if both are known."""
    passed = [level for level in trial.levels if level.passed]
    if trial.fleet is None or not passed:
        return None
    level = max(passed, key=lambda each: each.rate_rps)
    value = measured(getattr(level.report, slo.metric.value), slo.percentile)
    return None if value is None else (trial.fleet.usd_per_hour, value)


def tightest(spec: ServiceSpec) -> dict[str, LatencySlo]:
    """Return the limits by their text, in the order of the service."""
    order = list(LatencyMetric)
    return {str(slo): slo for slo in sorted(spec.slos.latency, key=lambda s: (order.index(s.metric), s.percentile))}


def _curve(study: Study, trial: Trial, points: Sequence[tuple[float, float, bool]]) -> go.Scatter:
    name, colour = role(study, trial)
    strong = name != _OTHER
    return go.Scatter(
        x=[rate for rate, _, _ in points],
        y=[value for _, value, _ in points],
        mode="lines+markers",
        line={"color": colour, "width": 2.6 if strong else 1.3},
        marker={
            "size": 9 if strong else 7,
            "color": [colour if passed else theme.CARD for _, _, passed in points],
            "line": {"color": colour, "width": 1.8},
        },
        name=f"#{trial.number} {_whole(trial, name)}" if strong else f"#{trial.number}",
        showlegend=strong,
        hovertemplate=f"trial {trial.number}<br>%{{x:.2f}} req/s<br>%{{y:,.0f}} ms<extra></extra>",
    )


def _whole(trial: Trial, name: str) -> str:
    return f"{name} × {trial.replicas}" if trial.replicas > 1 else name


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    front: list[tuple[float, float]] = []
    for cost, latency in sorted(points):
        if not front or latency < front[-1][1]:
            front.append((cost, latency))
    return front
