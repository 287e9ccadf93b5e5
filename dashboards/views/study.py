"""Study: what was tried, what it measured, and what is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import streamlit as st

from controlplane.domain.slo import LatencySlo
from controlplane.domain.study import STUDY_FINAL, Study, StudyState, Trial, TrialState
from dashboards import charts_study, components, theme, words
from dashboards.client import ApiClient
from dashboards.components import Card, confirmed
from dashboards.page import choose_one, choose_service, no_service, perform
from dashboards.views import study_tables


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    if not services:
        no_service("Study")
        return
    service = choose_service(services)
    studies = client.studies(service.name)
    if not studies:
        components.headline("Study", service.name)
        components.note(
            "No study yet",
            "A study searches the cheapest configuration that meets every limit:",
            f"fleetune study start {service.name}",
        )
        _start(client, service.name)
        return
    study = _choose(studies)
    trials = client.trials(study.study_id)
    _heading(study)
    components.emulation(study.spec.engine.kind, study.spec.gpus.type, study.spec.engine.time_lapse)
    _actions(client, study)
    components.cards(_cards(study, trials))
    _verdict(study)
    if not trials:
        components.note("No trial yet", "A tuner worker takes the study up within seconds; the baseline comes first.")
        return
    _plots(study, trials)
    components.section("Trials")
    study_tables.trials(study, trials)


def _choose(studies: Sequence[Study]) -> Study:
    by_id = {str(study.study_id): study for study in studies}

    def text_of(name: str) -> str:
        return f"{name} · {by_id[name].state} · {words.moment(by_id[name].created_at)}"

    return choose_one("Study", by_id, text_of, key="study")


def _heading(study: Study) -> None:
    state = components.pill(study.state.value, words.STUDY_COLOUR[study.state])
    by = f"{study.service} · created {words.moment(study.created_at)} UTC by {study.created_by}"
    components.headline(f"Study {study.study_id}", f"{by}{f' · {study.reason}' if study.reason else ''}", state)


def _actions(client: ApiClient, study: Study) -> None:
    with st.container(horizontal=True):
        if study.state in (StudyState.PENDING, StudyState.RUNNING):
            _act(client, study, "pause", "No new trial starts; the running one finishes.")
        if study.state is StudyState.PAUSED:
            _act(client, study, "resume", "The study goes on where it stopped.")
        if study.state not in STUDY_FINAL:
            _act(client, study, "abort", "The study ends without a recommendation. Finished trials are kept.")
        found = study.recommendation
        if found is not None and found.improvement and found.applied_revision is None:
            _apply(client, study)
        if study.state in STUDY_FINAL:
            _start(client, study.service)


def _act(client: ApiClient, study: Study, verb: str, consequence: str) -> None:
    reason = confirmed(f"{verb.capitalize()} study", consequence, key=f"study-{verb}")
    if reason is not None:
        perform(lambda: client.act("studies", study.study_id, verb, reason), f"{study.study_id}: {verb} asked for")


def _apply(client: ApiClient, study: Study) -> None:
    text = "A canary with the winner's flags is started beside stable and judged on live traffic, step by step."
    if confirmed("Apply recommendation", text, key="study-apply", primary=True) is not None:
        perform(lambda: client.apply_recommendation(study.study_id), "Rollout started: see the Rollout page")


def _start(client: ApiClient, service: str) -> None:
    text = "A new study takes GPUs and time within the budget of service.yaml. Nothing is rolled out by itself."
    if confirmed("Start a study", text, key="study-start") is not None:
        perform(lambda: client.start_study(service), "Study created")


def _cards(study: Study, trials: Sequence[Trial]) -> list[Card]:
    budget = study.spec.tuning.budget
    tried = sum(t.state is not TrialState.RUNNING for t in trials)
    infeasible = sum(t.state is TrialState.INFEASIBLE for t in trials)
    failed = sum(t.state is TrialState.FAILED for t in trials)
    hours = study.gpu_seconds / 3600
    end = study.finished_at or datetime.now(UTC)
    took = None if study.started_at is None else (end - study.started_at).total_seconds()
    return [
        Card("Trials finished", str(tried), "", f"{infeasible} infeasible · {failed} failed"),
        Card("Engine starts", str(study.engine_starts), "", f"of {budget.engine_starts} in the budget"),
        Card("GPU time", words.number(hours, 2), "GPU-h", _limit(budget.gpu_hours, "GPU-h")),
        Card("Wall clock", words.span(took), "", _limit(budget.wall_clock_s, "s")),
        *_best(study, trials),
    ]


def _limit(value: float | None, unit: str) -> str:
    return "no limit" if value is None else f"of {value:g} {unit}"


def _best(study: Study, trials: Sequence[Trial]) -> list[Card]:
    costs = [(t.fleet.usd_per_hour, t) for t in trials if t.fleet is not None and t.state is TrialState.FEASIBLE]
    if not costs:
        return []
    cost, trial = min(costs, key=lambda each: each[0])
    target = study.spec.slos.target_qps
    return [Card("Cheapest so far", words.usd(cost), "/h", f"trial #{trial.number} at {target:g} req/s", theme.WINNER)]


def _verdict(study: Study) -> None:
    found = study.recommendation
    if found is None:
        return
    components.section("Recommendation")
    if not found.improvement:
        components.note("No improvement", found.summary)
        return
    evidence = found.evidence
    saved = 1 - evidence.cost_ratio
    low, high = 1 - evidence.cost_ratio_high, 1 - evidence.cost_ratio_low
    components.cards(
        [
            Card(
                "Cost against baseline",
                f"−{words.percent(saved, 0)}",
                "",
                f"95 % interval {words.percent(low, 0)} to {words.percent(high, 0)}",
                theme.WINNER,
            ),
            Card("Replicas", str(found.fleet.replicas), "", f"{found.fleet.gpus} GPUs"),
            Card("Fleet cost", words.usd(found.fleet.usd_per_hour), "/h", "headroom included"),
        ]
    )
    st.html(f'<div class="ft-sub" style="padding:4px 2px">{escape(found.summary)}</div>')
    study_tables.side_by_side(study, evidence)


def _plots(study: Study, trials: Sequence[Trial]) -> None:
    slo = _limit_to_plot(study)
    left, right = st.columns(2)
    with left:
        figure = charts_study.latency_throughput(study, trials, slo)
        components.chart(figure, key="curves", title="Latency against rate", help_="hollow: level missed a limit")
    with right:
        figure = charts_study.pareto(study, trials, slo)
        components.chart(figure, key="pareto", title="Cost against latency", help_="at the highest rate that passed")
    if any(trial.capacity is not None for trial in trials):
        figure = charts_study.capacities(study, trials)
        components.chart(figure, key="capacities", title="Capacity of one replica", help_="with 95 % interval")
    knobs = charts_study.knob_effects(study, trials)
    if knobs is not None:
        help_ = "each point is one trial (other flags differ too); × could not serve"
        components.chart(knobs, key="knobs", title="What each knob did", help_=help_)


def _limit_to_plot(study: Study) -> LatencySlo:
    choices = charts_study.tightest(study.spec)
    chosen = st.segmented_control(
        "Limit", list(choices), default=next(iter(choices)), required=True, label_visibility="collapsed", key="limit"
    )
    return choices[chosen or next(iter(choices))]
