"""Study: what was tried, what it measured, and what is recommended."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.study import (
    STUDY_FINAL,
    Recommendation,
    Study,
    StudyEvidence,
    StudyState,
    Trial,
    TrialState,
)
from controlplane.domain.words import chance
from controlplane.host.clock import utc_now
from dashboards import components, markup, study_rows, theme, words
from dashboards.charts import knobs as charts_knobs
from dashboards.charts import study as charts_study
from dashboards.client import ApiClient
from dashboards.components import confirmed
from dashboards.markup import Card
from dashboards.page import choose_one, choose_service, no_service, perform
from dashboards.trial_order import TrialOrder, arranged

_MANY = 10
"""Trials that are taken in at a glance; more can be sorted and searched."""


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
    _outcomes(study)
    if not trials:
        components.note(
            "No trial yet",
            "A tuner worker takes the study up within seconds and prepares the baseline, which comes first: minutes.",
        )
        _prior(study, trials)
        return
    _plots(client, study, trials)
    _prior(study, trials)
    components.section("Trials")
    components.table(study_rows.TRIALS, study_rows.trial_rows(study, _arranged(trials)))


def _arranged(trials: Sequence[Trial]) -> Sequence[Trial]:
    """Return the trials a person wants to see, in their order; asks only in a study too long to take in."""
    if len(trials) <= _MANY:
        return trials
    with st.container(horizontal=True):
        order = TrialOrder(st.selectbox("Order", [each.value for each in TrialOrder], width=220, key="trial-order"))
        text = st.text_input("Find", placeholder="fp8, infeasible, max-num-seqs=64 …", width=320, key="trial-text")
    found = arranged(trials, order, text)
    if not found:
        components.line(f"None of the {len(trials)} trials holds “{text}”.")
    return found


def _choose(studies: Sequence[Study]) -> Study:
    by_id = {str(study.study_id): study for study in studies}

    def text_of(name: str) -> str:
        return f"{name} · {by_id[name].state} · {words.moment(by_id[name].created_at)}"

    return choose_one("Study", by_id, text_of, key="study")


def _heading(study: Study) -> None:
    state = markup.pill(study.state.value, words.STUDY_COLOUR[study.state])
    by = f"{study.service} · created {words.moment(study.created_at)} UTC by {study.created_by}"
    rest = [study.reason, None if study.calibration is None else study.calibration.summary]
    components.headline(f"Study {study.study_id}", " · ".join(filter(None, [by, *rest])), state)


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
    end = study.finished_at or utc_now()
    took = None if study.started_at is None else (end - study.started_at).total_seconds()
    return [
        Card("Trials finished", str(tried), "", f"{infeasible} infeasible · {failed} failed"),
        Card("Engine starts", str(study.engine_starts), "", f"of {budget.engine_starts} in the budget"),
        Card("GPU time", words.number(hours, 2), "GPU-h", _limit(budget.gpu_hours, "GPU-h")),
        Card("Wall clock", words.span(took), "", _limit_s(budget.wall_clock_s)),
        *_best(study, trials),
    ]


def _limit(value: float | None, unit: str) -> str:
    return "no limit" if value is None else f"of {value:g} {unit}"


def _limit_s(value: float | None) -> str:
    return "no limit" if value is None else f"of {words.span(value)}"


def _best(study: Study, trials: Sequence[Trial]) -> list[Card]:
    # of two that cost the same, the one that carries more
    costs = [
        (t.fleet.usd_per_hour, -t.capacity.rps, t.number)
        for t in trials
        if t.fleet is not None and t.capacity is not None and t.state is TrialState.FEASIBLE
    ]
    if not costs:
        return []
    cost, _, number = min(costs)
    target = study.spec.slos.target_qps
    name = "Cheapest measured" if study.state in STUDY_FINAL else "Cheapest so far"
    return [Card(name, words.usd(cost), "/h", f"trial #{number} at {target:g} req/s", theme.WINNER)]


def _over(evidence: StudyEvidence) -> str:
    """Return what the fleet's cost is held against."""
    if not evidence.compares:
        return "the baseline took no load"
    low, high = words.change(evidence.cost_ratio_low), words.change(evidence.cost_ratio_high)
    return f"against the baseline's, 95 %: {high} to {low}"


def _verdict(study: Study) -> None:
    found = study.recommendation
    if found is None:
        return
    components.section("Recommendation")
    if not found.improvement:
        components.note(found.title, found.summary)
        return
    evidence = found.evidence
    components.cards(
        [
            Card(
                "Cost of the fleet",
                words.change(evidence.cost_ratio) if evidence.compares else words.NONE,
                "",
                _over(evidence),
                theme.WINNER,
            ),
            Card("Replicas", str(found.fleet.replicas), "", f"{found.fleet.gpus} GPUs"),
            Card("Fleet cost", words.usd(found.fleet.usd_per_hour), "/h", "headroom included"),
            *_sureness(found),
        ]
    )
    components.line(f"{found.title}: {found.summary}")
    if found.next_step is not None:
        components.line(f"To make it sure: {found.next_step}")
    components.table(study_rows.SIDES, study_rows.side_rows(study, evidence))
    components.line(study_rows.provenance(evidence))


def _sureness(found: Recommendation) -> list[Card]:
    if found.chances is None:
        return []
    holds, cheaper = map(chance, (found.chances.holds, found.chances.cheaper))
    return [Card("Holds the target", holds, "", f"probability; cheaper than the baseline's: {cheaper}")]


def _outcomes(study: Study) -> None:
    if study.outcomes:
        components.section("What live traffic said")
        components.table(study_rows.OUTCOMES, study_rows.outcome_rows(study))


def _prior(study: Study, trials: Sequence[Trial]) -> None:
    if study.warm_start is not None:
        components.section("Warm start")
        components.line(study_rows.prior_text(study))
        components.table(study_rows.prior_columns(study), study_rows.prior_rows(study, trials))


def _plots(client: ApiClient, study: Study, trials: Sequence[Trial]) -> None:
    slo = _limit_to_plot(study)
    left, right = st.columns(2)
    with left:
        figure = charts_study.latency_throughput(study, trials, slo)
        components.chart(figure, key="curves", title="Latency against rate", help_=charts_study.CURVES_HELP)
    with right:
        figure = charts_study.pareto(study, trials, slo)
        components.chart(figure, key="pareto", title="Cost against latency", help_="at the highest rate that passed")
    if any(trial.capacity is not None for trial in trials):
        figure = charts_study.capacities(study, trials)
        components.chart(figure, key="capacities", title="Capacity of one replica", help_=charts_study.CAPACITY_HELP)
    importance = client.importance(study.study_id)
    if importance:
        figure = charts_knobs.importance(importance)
        components.chart(figure, key="importance", title="What each knob is worth", help_=charts_knobs.IMPORTANCE_HELP)
    knobs = charts_knobs.knob_effects(study, trials)
    if knobs is not None:
        components.chart(knobs, key="knobs", title="What each knob did", help_=charts_knobs.EFFECTS_HELP)


def _limit_to_plot(study: Study) -> LatencySlo:
    choices = charts_study.tightest(study.spec)
    chosen = st.segmented_control(
        "Limit", list(choices), default=next(iter(choices)), required=True, label_visibility="collapsed", key="limit"
    )
    return choices[chosen or next(iter(choices))]
