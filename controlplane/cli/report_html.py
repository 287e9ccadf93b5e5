"""A study as one self-contained HTML page: what was tried and why, what came out, and how sure that is."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go
import plotly.io as pio

from controlplane.domain.slo import LatencySlo
from controlplane.domain.study import LiveOutcome, Study, Trial, TrialState
from tuner.importance import importances
from tuner.objective import rate_to_beat

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#1c2733}
table{border-collapse:collapse;margin:1em 0;font-size:13px}td,th{padding:.3em .7em;text-align:left;
border-bottom:1px solid #dde3ea;vertical-align:top}.note{color:#5a6b7b}code{font-size:12px}
"""


def study_page(study: Study, trials: Sequence[Trial]) -> str:
    """Return the page. Rates are requests per second of one replica, in emulated time where there was a time lapse."""
    title = f"Study {study.study_id}"
    parts = [_head(study), _table(study, trials), _importance(study, trials), *_plots(study, trials)]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{''.join(parts)}</html>"
    )


def _head(study: Study) -> str:
    spec, found = study.spec, study.recommendation
    lapse = spec.engine.time_lapse
    limits = ", ".join(str(slo) for slo in spec.slos.latency)
    budget = spec.tuning.budget
    rows = [
        ("Service", f"{study.service}: {spec.model.name} on {spec.gpus.count} × {spec.gpus.type}"),
        ("Promises", f"{limits} at {spec.slos.target_qps:g} requests/s"),
        ("Result", found.summary if found else f"{study.state.value}: {study.reason or ''}"),
        ("Ended because", study.reason or "it has not ended"),
        (
            "Budget spent",
            f"{study.engine_starts} of {budget.engine_starts} engine starts, {study.gpu_seconds:.0f} GPU-s",
        ),
        ("Engine", f"{spec.engine.kind.value}, vLLM {study.engine_version or 'unknown'}, seed {spec.tuning.seed}"),
    ]
    if found and found.improvement:
        rows.append(("Winner", " ".join(found.config.to_args())))
    if found and found.evidence.quality:
        rows.append(("Answers", found.evidence.quality.reason))
    rows += [("Live traffic", _observed(outcome)) for outcome in study.outcomes]
    if study.warm_start:
        known = f"{len(study.warm_start.capacities)} capacities of study {study.warm_start.study_id}"
        rows.append(("Began with", f"{known}, as a prior only: none is counted as measured here"))
    if lapse != 1:
        rows.append(("Time", f"emulated time ran {lapse:g} times as fast as the wall clock"))
    return "<table>" + "".join(f"<tr><th>{_e(name)}<td>{_e(value)}" for name, value in rows) + "</table>"


def _observed(outcome: LiveOutcome) -> str:
    verdicts = "; ".join(f"{analysis.verdict.value}: {analysis.reason}" for analysis in outcome.analyses)
    state = "promoted" if outcome.promoted else "taken back"
    return f"{state} by rollout {outcome.rollout_id} ({outcome.reason})" + (f". {verdicts}" if verdicts else "")


def _table(study: Study, trials: Sequence[Trial]) -> str:
    rows = "".join(_row(study, trial) for trial in trials)
    heads = "trial, kind, flags, state, capacity, twin expected, USD per hour, USD per 1M tokens, start s, levels, why"
    return f"<h2>What was tried</h2><table><tr>{''.join(f'<th>{h}' for h in heads.split(', '))}{rows}</table>"


def _row(study: Study, trial: Trial) -> str:
    own = {n: v for n, v in trial.config.flags.items() if study.baseline.flags.get(n) != v}
    capacity = trial.capacity
    cells = [
        trial.number,
        trial.kind.value if trial.replicas == 1 else f"{trial.kind.value} ({trial.replicas} replicas)",
        " ".join(f"--{name}={value}" for name, value in own.items()) or "as the baseline",
        trial.state.value + (f" (attempt {trial.attempt})" if trial.attempt > 1 else ""),
        "" if capacity is None else f"{capacity.rps:.3g} ({capacity.low_rps:.3g} to {capacity.high_rps:.3g})",
        f"{trial.predicted['capacity_rps']:.3g}" if "capacity_rps" in trial.predicted else "",
        "" if trial.fleet is None else f"{trial.fleet.usd_per_hour:.2f}",
        "" if trial.usd_per_million_tokens is None else f"{trial.usd_per_million_tokens:.3f}",
        "" if trial.startup_s is None else f"{trial.startup_s:.0f}",
        len(trial.levels),
        trial.reason or "",
    ]
    return "<tr>" + "".join(f"<td>{_e(cell)}" for cell in cells)


def _importance(study: Study, trials: Sequence[Trial]) -> str:
    found = importances(study.spec, trials)
    if not found:
        return "<h2>What each flag did</h2><p class=note>Too few trials were measured to tell flags apart.</p>"
    rows = "".join(
        f"<tr><td>--{_e(item.flag)}<td>{item.effect:+.0%}<td>{item.low:+.0%} to {item.high:+.0%}<td>{_e(item.best)}"
        for item in found
    )
    return (
        "<h2>What each flag did</h2><p class=note>Cost per request at its worst value tried over its best; 95 % "
        "interval from leaving out one trial at a time.</p>"
        f"<table><tr><th>flag<th>effect<th>interval<th>best{rows}</table>"
    )


def _plots(study: Study, trials: Sequence[Trial]) -> Iterator[str]:
    figures = [*(_curve(slo, trials) for slo in study.spec.slos.latency), _capacities(study, trials)]
    figures += [_pareto(study, slo, trials) for slo in study.spec.slos.latency]
    if any(trial.predicted for trial in trials):
        figures.append(_twin(trials))
    for number, figure in enumerate(figures):
        yield pio.to_html(figure, full_html=False, include_plotlyjs=number == 0)


def _curve(slo: LatencySlo, trials: Sequence[Trial]) -> go.Figure:
    """Measured percentile against rate, one line per trial."""
    figure = go.Figure(layout={"title": f"{slo} against the rate of one replica"})
    for trial in trials:
        points = sorted(_measured(trial, slo))
        figure.add_scatter(x=[p[0] for p in points], y=[p[1] for p in points], name=f"trial {trial.number}")
    figure.add_hline(y=slo.limit_ms, line_dash="dash")
    figure.update_xaxes(title="requests/s")
    return figure.update_yaxes(title="ms", type="log")


def _capacities(study: Study, trials: Sequence[Trial]) -> go.Figure:
    """Capacity per GPU with its bracket: what a GPU is worth under each configuration."""
    found = [(trial, trial.capacity) for trial in trials if trial.capacity is not None]
    gpus = [trial.config.gpus_per_replica for trial, _ in found]
    middle = [rate_to_beat(c.rps, g, 1) for (_, c), g in zip(found, gpus, strict=True)]
    figure = go.Figure(layout={"title": "Capacity per GPU, requests/s (bar: highest passed to lowest failed)"})
    figure.add_scatter(
        x=[f"{trial.number} {trial.kind.value}" for trial, _ in found],
        y=middle,
        mode="markers",
        error_y={
            "array": [rate_to_beat(c.high_rps - c.rps, g, 1) for (_, c), g in zip(found, gpus, strict=True)],
            "arrayminus": [rate_to_beat(c.rps - c.low_rps, g, 1) for (_, c), g in zip(found, gpus, strict=True)],
        },
    )
    return figure


def _pareto(study: Study, slo: LatencySlo, trials: Sequence[Trial]) -> go.Figure:
    """Cost against latency at the highest rate that passed."""
    figure = go.Figure(layout={"title": f"USD per hour at the target against {slo.metric.value} at capacity"})
    for trial in trials:
        passed = sorted((p for p in _measured(trial, slo) if p[2]), reverse=True)
        if trial.fleet is not None and passed and trial.state is TrialState.FEASIBLE:
            figure.add_scatter(
                x=[passed[0][1]], y=[trial.fleet.usd_per_hour], mode="markers", name=f"trial {trial.number}"
            )
    figure.update_xaxes(title=f"P{slo.percentile:g} ms")
    return figure.update_yaxes(title="USD per hour")


def _twin(trials: Sequence[Trial]) -> go.Figure:
    pairs = [
        (trial.predicted["capacity_rps"], trial.capacity.rps, trial.number)
        for trial in trials
        if trial.capacity is not None and "capacity_rps" in trial.predicted
    ]
    figure = go.Figure(layout={"title": "Capacity: what the twin expected against what was measured"})
    figure.add_scatter(
        x=[p[0] for p in pairs], y=[p[1] for p in pairs], text=[f"trial {p[2]}" for p in pairs], mode="markers+text"
    )
    top = max((max(p[0], p[1]) for p in pairs), default=1.0)
    figure.add_scatter(x=[0, top], y=[0, top], mode="lines", name="equal")
    figure.update_xaxes(title="expected, requests/s")
    return figure.update_yaxes(title="measured, requests/s")


def _measured(trial: Trial, slo: LatencySlo) -> Iterator[tuple[float, float, bool]]:
    for level in trial.levels:
        for check in level.report.slo_checks:
            if check.slo == slo and check.measured is not None:
                yield level.rate_rps, check.measured.value, level.passed


def _e(value: object) -> str:
    return html.escape(str(value))
