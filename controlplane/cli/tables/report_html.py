"""A study as one self-contained HTML page: what was tried and why, what came out, and how sure that is."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go
import plotly.io as pio

from controlplane.domain.studies.study import Recommendation, Study, Trial
from dashboards import markup, study_rows, theme, words
from dashboards.charts import knobs as charts_knobs
from dashboards.charts import study as charts_study
from dashboards.markup import Card, Column
from tuner.answer.importance import importances

STYLE = f"""<style>
body {{ font: 15px/1.45 {theme.FONT}; max-width: 1180px; margin: 2em auto; padding: 0 1.2em; color: {theme.INK};
  background: {theme.PAPER}; }}
.chart {{ background: {theme.CARD}; border: 1px solid {theme.LINE}; border-radius: 10px;
  padding: 12px 16px; margin: 12px 0; }}
.ft-grid, .ft-emulated, .ft-card {{ margin-top: 10px; }}
.ft-grid .ft-card {{ margin-top: 0; }}
</style>"""


def study_page(study: Study, trials: Sequence[Trial]) -> str:
    """Return the page. Rates and latencies are in emulated time where there was a time lapse, which the page says."""
    title = html.escape(f"Study {study.study_id}")
    parts = [*_head(study, trials), *_result(study), *_plots(study, trials), *_prior(study, trials)]
    parts += [markup.section("What was tried"), markup.table(study_rows.TRIALS, study_rows.trial_rows(study, trials))]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"{theme.CSS}{STYLE}<body>{''.join(parts)}</body></html>"
    )


def _head(study: Study, trials: Sequence[Trial]) -> Iterator[str]:
    spec = study.spec
    state = markup.pill(study.state.value, words.STUDY_COLOUR[study.state])
    about = f"{study.service}: {spec.model.name} on {spec.gpus.count} × {spec.gpus.type}"
    created = f"created {words.moment(study.created_at)} UTC by {study.created_by}"
    yield markup.headline(f"Study {study.study_id}", f"{about}, {created}", state)
    yield markup.emulation(spec.engine.kind, spec.gpus.type, spec.engine.time_lapse)
    yield markup.cards(_cards(study, trials))
    limits = ", ".join(str(slo) for slo in spec.slos.latency)
    yield markup.table(
        [Column(""), Column("")],
        [
            ["Promised", f"{limits} at {spec.slos.target_qps:g} requests/s"],
            ["Engine", f"{spec.engine.kind.value}, vLLM {study.engine_version or 'unknown'}, seed {spec.tuning.seed}"],
            *([["Twin", study.calibration.summary]] if study.calibration is not None else []),
            ["Ended because", study.reason or "it has not ended"],
        ],
    )


def _cards(study: Study, trials: Sequence[Trial]) -> list[Card]:
    budget, started, ended = study.spec.tuning.budget, study.started_at, study.finished_at
    took = None if started is None or ended is None else (ended - started).total_seconds()
    hours = "no limit" if budget.gpu_hours is None else f"of {budget.gpu_hours:g} GPU-h"
    wall = "no limit" if budget.wall_clock_s is None else f"of {words.span(budget.wall_clock_s)}"
    return [
        Card("Trials", str(len(trials)), "", f"{sum(len(trial.levels) for trial in trials)} rate levels"),
        Card("Engine starts", str(study.engine_starts), "", f"of {budget.engine_starts} engine starts"),
        Card("GPU time", words.number(study.gpu_seconds / 3600, 2), "GPU-h", hours),
        Card("Wall clock", words.span(took), "", wall),
    ]


def _result(study: Study) -> Iterator[str]:
    found = study.recommendation
    yield markup.section("Recommendation")
    if found is None:
        yield markup.note("None", "The study ended, or has come so far, without one.")
    elif not found.improvement:
        yield markup.note(found.title, found.summary)
    else:
        yield from _winner(study, found)
    if study.outcomes:
        yield markup.section("What live traffic said")
        yield markup.table(study_rows.OUTCOMES, study_rows.outcome_rows(study))


def _winner(study: Study, found: Recommendation) -> Iterator[str]:
    yield markup.line(f"{found.title}: {found.summary}")
    if found.next_step is not None:
        yield markup.line(f"To make it sure: {found.next_step}")
    yield markup.table(study_rows.SIDES, study_rows.side_rows(study, found.evidence))
    yield markup.line(study_rows.provenance(found.evidence))


def _prior(study: Study, trials: Sequence[Trial]) -> Iterator[str]:
    if study.warm_start is not None:
        yield markup.section("Warm start")
        yield markup.line(study_rows.prior_text(study))
        yield markup.table(study_rows.prior_columns(study), study_rows.prior_rows(study, trials))


def _plots(study: Study, trials: Sequence[Trial]) -> Iterator[str]:
    for number, (title, help_, figure) in enumerate(_figures(study, trials)):
        drawn = pio.to_html(figure, full_html=False, include_plotlyjs=number == 0, config=theme.CHART)
        yield f'<div class="chart">{markup.caption(title, help_)}{drawn}</div>'
    if not importances(study.spec, trials):
        yield markup.note("What each knob is worth", "Too few trials were measured to tell flags apart.")


def _figures(study: Study, trials: Sequence[Trial]) -> Iterator[tuple[str, str, go.Figure]]:
    if not trials:
        return
    limits = charts_study.tightest(study.spec).values()
    for slo in limits:
        figure = charts_study.latency_throughput(study, trials, slo)
        yield f"{words.percentile(slo)} against rate", charts_study.CURVES_HELP, figure
    yield "Capacity of one replica", charts_study.CAPACITY_HELP, charts_study.capacities(study, trials)
    for slo in limits:
        figure = charts_study.pareto(study, trials, slo)
        yield f"Cost against {words.percentile(slo)}", "at the highest rate that passed", figure
    worth = importances(study.spec, trials)
    if worth:
        yield "What each knob is worth", charts_knobs.IMPORTANCE_HELP, charts_knobs.importance(worth)
    knobs = charts_knobs.knob_effects(study, trials)
    if knobs is not None:
        yield "What each knob did", charts_knobs.EFFECTS_HELP, knobs
