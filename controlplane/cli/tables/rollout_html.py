"""A rollout as one self-contained HTML page: what was tried on live traffic, what it showed, and how it ended."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from datetime import datetime

import plotly.graph_objects as go
import plotly.io as pio

from controlplane.cli.tables.report_html import STYLE
from controlplane.domain.rollouts.analysis import Analysis, Counts
from controlplane.domain.rollouts.answers import describe_answers
from controlplane.domain.rollouts.effects import describe_effect
from controlplane.domain.rollouts.judge import describe_load
from controlplane.domain.rollouts.looks import Look
from controlplane.domain.rollouts.promise import describe_promise, describe_shown
from controlplane.domain.rollouts.rollout import Rollout, StepRecord
from controlplane.domain.rollouts.rollout_report import RolloutReport
from controlplane.domain.rollouts.strata import describe_strata
from controlplane.domain.words import counted
from dashboards import markup, theme, words
from dashboards.charts import looks as charts_looks
from dashboards.charts import rollout as charts_rollout
from dashboards.markup import Column

_SIDES = [Column("Requests of"), *(Column(t, True) for t in ("Judged", "SLO misses", "Errors", "Truncated", "Refused"))]


def rollout_page(report: RolloutReport, now: datetime) -> str:
    """Return the page. Rates and latencies are in emulated time where there was a time lapse, which the page says."""
    title = html.escape(f"Rollout {report.rollout.rollout_id}")
    parts = [*_head(report), *_timeline(report, now)]
    for step in report.rollout.steps:
        parts += _step(step, report.looks)
    parts += _events(report)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"{theme.CSS}{STYLE}<body>{''.join(parts)}</body></html>"
    )


def _head(report: RolloutReport) -> Iterator[str]:
    rollout = report.rollout
    state = markup.pill(rollout.state.value, words.ROLLOUT_COLOUR[rollout.state])
    about = f"{rollout.service}, started {words.moment(rollout.created_at)} UTC"
    yield markup.headline(f"Rollout {rollout.rollout_id}", about, state)
    yield markup.emulation(report.engine, report.gpu, report.time_lapse)
    limits = ", ".join(str(slo) for slo in report.slos.latency)
    options = rollout.options
    rows = [
        ["Ended because", rollout.reason or "it has not ended"],
        ["Canary", f"{rollout.canary}, {counted(rollout.canary_replicas, 'replica')} once promoted"],
        ["Against", str(rollout.stable or "nothing served before")],
        ["Different", "; ".join(report.changes)],
        ["Promised", f"{limits} at {report.slos.target_qps:g} requests/s"],
        ["By its study", describe_promise(report.promise) if report.promise else "started without one"],
        ["Before any traffic", _answers(rollout)],
        [
            "May err",
            f"promote a worse one {_percent(options.false_promotion)}, abort an equal one "
            f"{_percent(options.false_abort_per_step * len(options.steps))}",
        ],
    ]
    yield markup.table([Column(""), Column("")], rows)


def _answers(rollout: Rollout) -> str:
    if rollout.answers is None:
        return "answers not compared: nothing they depend on changed"
    accepted = "; a person went on nevertheless" if rollout.answers_accepted else ""
    return describe_answers(rollout.answers) + accepted


def _timeline(report: RolloutReport, now: datetime) -> Iterator[str]:
    figure = charts_rollout.weights(report.rollout, now, report.looks)
    drawn = pio.to_html(figure, full_html=False, include_plotlyjs=True, config=theme.CHART)
    yield f'<div class="chart">{markup.caption("Timeline", "the share asked for, and as gateways had it")}{drawn}</div>'


def _step(step: StepRecord, looks: Sequence[Look]) -> Iterator[str]:
    yield markup.section(f"Step {step.index + 1}: {step.whose}")
    analysis = step.analysis
    if analysis is None:
        yield markup.note("Not judged", "It ended, or has come so far, without a look.")
        return
    end = step.finished_at or analysis.at
    took = words.span((end - step.started_at).total_seconds())
    yield markup.line(f"{analysis.verdict.value} after {took}: {analysis.reason}")
    if analysis.guard is not None:
        yield markup.line(f"guard rail: {analysis.guard}")
    if analysis.load is not None:
        said = "proven" if analysis.load.proven else "not proven"
        yield markup.line(f"load {said}: {describe_load(analysis.load)}")
    if analysis.shown is not None:
        yield markup.line(f"shown: {describe_shown(analysis.shown)}")
    yield markup.table(_SIDES, _sides(analysis))
    if analysis.strata is not None:
        yield markup.line(f"by strata: {describe_strata(analysis.strata)}")
    for effect in analysis.effects:
        yield markup.line(describe_effect(effect))
    if analysis.comparisons:
        yield _chart(charts_rollout.comparisons(analysis), "Canary against stable", "valid at every look")
    yield from _over_time([look for look in looks if look.step == step.index])


def _over_time(looks: Sequence[Look]) -> Iterator[str]:
    """How the intervals narrowed, and which share of the traffic gateways really gave the canary."""
    for name, title in charts_looks.names(looks):
        yield _chart(
            charts_looks.intervals(looks, name), f"{title} over time", "a look each; most narrow as requests come"
        )
    if looks:
        rows = [[words.moment(at), *seen] for at, *seen in charts_looks.seen_shares(looks)]
        yield markup.table(
            [Column("When, UTC"), Column("Share at each gateway"), Column("Of arrivals so far", True)], rows
        )


def _chart(figure: go.Figure, title: str, about: str) -> str:
    drawn = pio.to_html(figure, full_html=False, include_plotlyjs=False, config=theme.CHART)
    return f'<div class="chart">{markup.caption(title, about)}{drawn}</div>'


def _sides(analysis: Analysis) -> list[list[str]]:
    sides = [
        ("users, canary", analysis.canary),
        ("replayed, canary", analysis.replayed),
        ("users, stable", analysis.stable),
    ]
    return [[name, *_numbers(counts)] for name, counts in sides if counts is not None]


def _numbers(counts: Counts) -> list[str]:
    return [
        str(counts.requests),
        f"{counts.slo_misses} in {counts.miss_runs.runs} runs" if counts.miss_runs else str(counts.slo_misses),
        str(counts.errors),
        str(counts.truncated),
        str(counts.refused),
    ]


def _events(report: RolloutReport) -> Iterator[str]:
    yield markup.section("What happened")
    columns = [Column("When, UTC"), Column("Who"), Column("What"), Column("Why")]
    rows = [[words.moment(e.at), e.actor, e.action, e.reason] for e in report.events]
    yield markup.table(columns, rows)


def _percent(ratio: float) -> str:
    return f"{100 * ratio:g} %"
