"""Rollout: how far the canary is, what its verdict rests on, and the buttons to steer it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from controlplane.domain.revision import Revision
from controlplane.domain.revision_changes import revision_changes
from controlplane.domain.rollouts.analysis import Analysis, Counts
from controlplane.domain.rollouts.answers import describe_answers
from controlplane.domain.rollouts.effects import describe_effect
from controlplane.domain.rollouts.judge import describe_load
from controlplane.domain.rollouts.promise import describe_shown
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState, StepRecord
from controlplane.domain.rollouts.strata import describe_strata
from controlplane.domain.words import counted
from controlplane.host.clock import utc_now
from dashboards import components, markup, theme, words
from dashboards.charts import looks as charts_looks
from dashboards.charts import rollout as charts_rollout
from dashboards.client import ApiClient
from dashboards.components import confirmed
from dashboards.markup import Column
from dashboards.page import choose_one, choose_service, no_service, perform

# What a person may ask in each state, with what it does. Promotion that has begun is halted, never aborted.
_VERBS: dict[RolloutState, tuple[str, ...]] = {
    RolloutState.PENDING: ("pause", "abort"),
    RolloutState.PROGRESSING: ("pause", "promote", "abort"),
    RolloutState.PAUSED: ("resume", "promote", "abort"),
    RolloutState.PROMOTING: ("halt",),
    RolloutState.HALTED: ("resume",),
    RolloutState.ABORTING: (),
    RolloutState.PROMOTED: (),
    RolloutState.ABORTED: (),
}

_CONSEQUENCE = {
    "pause": "The canary keeps its share of traffic; nothing is judged until you resume.",
    "resume": "Goes on where it stopped.",
    "promote": "The canary gets all traffic and becomes stable, without waiting for the verdicts.",
    "abort": "All traffic returns to stable at once; the canary drains and stops.",
    "halt": "The promotion stops midway. A person must resume it.",
}


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    if not services:
        no_service("Rollout")
        return
    service = choose_service(services)
    rollouts = client.rollouts(service.name)
    if not rollouts:
        components.headline("Rollout", service.name)
        text = "A rollout brings a recommendation to live traffic behind a canary. Apply one on the Study page, or:"
        components.note("No rollout yet", text, "fleetune recommendation apply STUDY")
        return
    rollout = _choose(rollouts)
    components.headline(
        f"Rollout {rollout.rollout_id}",
        f"{rollout.service} · started {words.moment(rollout.created_at)} UTC"
        + (f" · from study {rollout.study_id}" if rollout.study_id else ""),
        markup.pill(rollout.state.value, words.ROLLOUT_COLOUR[rollout.state]),
    )
    components.emulation(service.spec.engine.kind, service.spec.gpus.type, service.spec.engine.time_lapse)
    if rollout.reason:
        st.html(f'<div style="padding:2px">{escape(rollout.reason)}</div>')
    if found := changes(rollout, client.revisions(rollout.service)):
        components.line(f"The canary has different · {' · '.join(found)}")
    if rollout.answers is not None:
        components.line(f"Before any traffic · {describe_answers(rollout.answers)}")
    _actions(client, rollout, newest=rollout is rollouts[0])
    _waiting(rollout)
    _split(rollout)
    _steps(rollout)
    _evidence(rollout)
    _timeline(client, rollout)


def changes(rollout: Rollout, revisions: Sequence[Revision]) -> list[str]:
    """Return what the canary has different from stable, a sentence each; nothing where a revision is unknown."""
    known = {revision.revision_id: revision for revision in revisions}
    if rollout.stable not in known or rollout.canary not in known:
        return []
    found = revision_changes(known[rollout.stable], known[rollout.canary])
    return list(found) or ["nothing that is shown: a value of its environment"]


def _choose(rollouts: Sequence[Rollout]) -> Rollout:
    by_id = {str(rollout.rollout_id): rollout for rollout in rollouts}

    def text_of(name: str) -> str:
        return f"{name} · {by_id[name].state} · {words.moment(by_id[name].created_at)}"

    return choose_one("Rollout", by_id, text_of, key="rollout")


def _actions(client: ApiClient, rollout: Rollout, *, newest: bool) -> None:
    with st.container(horizontal=True):
        if newest and rollout.state in (RolloutState.PROMOTED, RolloutState.HALTED):
            _roll_back(client, rollout)
        for verb in _VERBS[rollout.state]:
            label = f"{verb.capitalize()} rollout"
            reason = confirmed(label, _CONSEQUENCE[verb], key=f"rollout-{verb}")
            if reason is not None:
                _do(client, rollout, verb, reason)


def _roll_back(client: ApiClient, rollout: Rollout) -> None:
    earlier = rollout.stable
    if earlier is None:
        return
    text = f"A new rollout leads back to {earlier}, step by step and judged like any other."
    if confirmed("Roll back", text, key="rollout-back") is not None:
        perform(lambda: client.roll_back(rollout.service, earlier), f"Rollout to {earlier} started")


def _waiting(rollout: Rollout) -> None:
    if rollout.state not in (RolloutState.PENDING, RolloutState.PROGRESSING):
        return
    if rollout.short_since is not None:
        since = words.moment(rollout.short_since)
        components.note("The canary waits for GPUs", f"None are free since {since} UTC. A running study may hold them.")
    elif rollout.waits_for_replicas:
        missing = counted(rollout.replicas_needed, "canary replica")
        st.html(f'<div class="ft-sub">Starting {missing} for the next step …</div>')


def _do(client: ApiClient, rollout: Rollout, verb: str, reason: str) -> None:
    perform(lambda: client.act("rollouts", rollout.rollout_id, verb, reason), f"{rollout.rollout_id}: {verb} asked for")


def _split(rollout: Rollout) -> None:
    canary = rollout.weight_percent
    stable = 100 - canary
    if rollout.state is RolloutState.PROMOTED:
        parts = [(100, theme.STABLE, f"stable 100 % · {rollout.canary}")]
    else:
        parts = [
            (stable, theme.STABLE, f"stable {stable} % · {rollout.stable or 'nothing served before'}"),
            (canary, theme.CANARY, f"canary {canary} % · {rollout.canary}"),
        ]
    bar = "".join(f'<div style="width:{w}%;background:{c}">{escape(t) if w > 25 else ""}</div>' for w, c, t in parts)
    small = next((text for weight, _, text in parts if weight <= 25), "")
    st.html(
        f'<div class="ft-bar">{bar}</div><div class="ft-sub" style="text-align:right;padding-top:3px;'
        f'font-size:0.84rem">{escape(small)}</div>'
    )


def _steps(rollout: Rollout) -> None:
    done = {record.index: record for record in rollout.steps}
    items = [_step(rollout, done.get(index), step.weight_percent) for index, step in enumerate(rollout.options.steps)]
    end = "promoted" if rollout.state is RolloutState.PROMOTED else "stable"
    colour = theme.GOOD if rollout.state is RolloutState.PROMOTED else theme.FAINT
    items.append(_circle("★", colour, end, ""))
    st.html(f'<div class="ft-card"><div class="ft-steps">{"".join(items)}</div></div>')


def _step(rollout: Rollout, record: StepRecord | None, weight: int) -> str:
    if record is None:
        return _circle(f"{weight} %", theme.FAINT, "waits", "")
    analysis = record.analysis
    if analysis is None:
        return _circle(f"{weight} %", theme.CANARY, "collecting samples", "")
    running = record.finished_at is None and rollout.state not in ROLLOUT_FINAL
    colour = theme.CANARY if running else words.VERDICT_COLOUR[analysis.verdict]
    end = record.finished_at or analysis.at
    took = words.span((end - record.started_at).total_seconds())
    text = f"so far {analysis.verdict}" if running else analysis.verdict.value
    return _circle(f"{weight} %", colour, text, f"{_judged_on(analysis)} · {took}")


def _judged_on(analysis: Analysis) -> str:
    """Users' requests; of a step that has none what was replayed."""
    if analysis.canary.requests or analysis.replayed is None:
        return f"{analysis.canary.requests} requests"
    return f"{analysis.replayed.requests} replayed"


def _circle(inside: str, colour: str, below: str, small: str) -> str:
    return (
        f'<div class="ft-step"><div class="c" style="border-color:{colour};color:{colour}">{escape(inside)}</div>'
        f'<b style="color:{theme.INK}">{escape(below)}</b><br>{escape(small)}</div>'
    )


def _evidence(rollout: Rollout) -> None:
    analysis = next((step.analysis for step in reversed(rollout.steps) if step.analysis), None)
    if analysis is None:
        return
    components.section("Latest verdict")
    badge = markup.pill(analysis.verdict.value, words.VERDICT_COLOUR[analysis.verdict])
    guard = markup.pill(f"guard rail: {analysis.guard}", theme.BAD) if analysis.guard else ""
    at = words.moment(analysis.at)
    st.html(
        f'<div>{badge} {guard} <span style="margin-left:8px">{escape(analysis.reason)}</span> '
        f'<span class="ft-sub">{at} UTC</span></div>'
    )
    if analysis.load is not None:
        said = "proven" if analysis.load.proven else "not proven"
        st.html(f'<div class="ft-sub">Load {said}: {escape(describe_load(analysis.load))}</div>')
    if analysis.shown is not None:
        st.html(f'<div class="ft-sub">Shown: {escape(describe_shown(analysis.shown))}</div>')
    if analysis.strata is not None:
        components.line(f"by strata: {describe_strata(analysis.strata)}")
    for effect in analysis.effects:
        st.html(f'<div class="ft-sub">{escape(describe_effect(effect))}</div>')
    left, right = st.columns((6, 5))
    with left:
        _counts(analysis)
    with right:
        if analysis.comparisons:
            confidence = f"{words.percent(rollout.options.confidence, 0)} interval, valid at every look"
            figure = charts_rollout.comparisons(analysis)
            components.chart(figure, key="comparisons", title="Canary against stable", help_=confidence)


def _counts(analysis: Analysis) -> None:
    parts = [("canary", theme.CANARY, analysis.canary)]
    if analysis.replayed is not None:
        parts.append(("replayed to the canary", theme.CANARY, analysis.replayed))
    if analysis.stable is not None:
        parts.append(("stable", theme.STABLE, analysis.stable))
    columns = [
        Column("Revision"),
        *(Column(t, True) for t in ("Requests", "SLO misses", "Errors", "Truncated", "Refused")),
    ]
    rows = [[markup.pill(name, colour), *_numbers(counts)] for name, colour, counts in parts]
    components.table(columns, rows)


def _numbers(counts: Counts) -> list[str]:
    def share(part: int) -> str:
        ratio = part / counts.requests if counts.requests else None
        return f"{part} ({words.percent(ratio)})"

    return [
        str(counts.requests),
        share(counts.slo_misses),
        share(counts.errors),
        str(counts.truncated),
        str(counts.refused),
    ]


def _timeline(client: ApiClient, rollout: Rollout) -> None:
    looks = client.rollout_report(rollout.rollout_id).looks
    components.chart(charts_rollout.weights(rollout, utc_now(), looks), key="weights", title="Timeline")
    for name, title in charts_looks.names(looks):
        figure = charts_looks.intervals(looks, name)
        components.chart(figure, key=f"over-time-{name}", title=f"{title} over time")
    events = client.events(subject=f"rollout/{rollout.rollout_id}", limit=50)
    if events:
        rows = [[words.moment(e.at), e.actor, e.action, e.reason] for e in events]
        components.table([Column("When, UTC"), Column("Who"), Column("What"), Column("Why")], rows)
