"""Models: which versions there are, what their aliases point to, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from controlplane.domain.models import CANDIDATE, STABLE, Outcome, RegisteredModel
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.serving import Service
from controlplane.domain.words import counted
from dashboards import components, markup, theme, words
from dashboards.client import ApiClient
from dashboards.components import confirmed
from dashboards.markup import Column
from dashboards.page import choose_one, no_service, perform


class Serving(NamedTuple):
    """A service that serves a version now."""

    service: str
    version: int
    revision: str
    replicas: int
    stopped: bool


_ENDED = {
    RolloutState.PROMOTED: theme.GOOD,
    RolloutState.ABORTED: theme.BAD,
    RolloutState.HALTED: theme.WARN,
}


def show(client: ApiClient) -> None:
    """Render the page."""
    models = client.models()
    if not models:
        if client.services():
            text = "A registered model has versions with digests, and aliases that say which one is meant."
            components.headline("Models")
            components.note("No model registered yet", text, "fleetune model register NAME SOURCE")
        else:
            no_service("Models")
        return
    by_name = {model.name: model for model in models}
    model = choose_one("Model", by_name, str, key="model")
    components.headline(f"Model {model.name}", f"{counted(len(model.versions), 'version')} · all times UTC")
    _origin(model)
    _versions(model)
    _move(client, model)
    became = client.lineage(model.name)
    _serving(client, serving(became, client.services()))
    _lineage(became)


def _origin(model: RegisteredModel) -> None:
    """Say which model of MLflow this one follows, and what keeps it from that."""
    if model.origin is None:
        return
    components.line(f"Follows {model.origin.model} of MLflow.")
    for problem in filter(None, [model.origin.problem, *model.origin.refused.values()]):
        components.line(problem)


def _versions(model: RegisteredModel) -> None:
    titles = ("Version", "Aliases", "In MLflow", "Source", "Digest", "Other forms", "Scores", "Registered", "By")
    rows = [
        [
            str(version.number),
            _aliases(model, version.number),
            version.origin or words.NONE,
            version.source,
            (version.digest or words.NONE)[:19],
            ", ".join(variant.name for variant in version.variants) or words.NONE,
            ", ".join(f"{name} {value:g}" for name, value in version.quality.items()) or words.NONE,
            words.moment(version.registered_at),
            version.registered_by,
        ]
        for version in reversed(model.versions)
    ]
    components.table([Column(title) for title in titles], rows)


def _aliases(model: RegisteredModel, version: int) -> markup.Html:
    names = [name for name, alias in sorted(model.aliases.items()) if alias.version == version]
    return markup.Html(" ".join(markup.pill(name, theme.GOOD if name == STABLE else theme.CANARY) for name in names))


def _move(client: ApiClient, model: RegisteredModel) -> None:
    names = sorted({STABLE, CANDIDATE, *model.aliases})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        alias = st.selectbox("Alias", names, width=220, key="alias")
        number = st.selectbox("Version", [each.number for each in reversed(model.versions)], width=120, key="to")
        present = model.aliases.get(alias)
        seen = None if present is None else present.version
        text = (
            f"{alias} points {'nowhere' if seen is None else f'to version {seen}'} now. Services that follow it change."
        )
        if confirmed(f"Move {alias} to {number}", text, key="move-alias") is not None:
            done = f"{alias} points to version {number}"
            perform(lambda: client.move_alias(model.name, alias, number, seen=seen), done)


def serving(became: Sequence[Outcome], services: Sequence[Service]) -> list[Serving]:
    """Return which revision of which service serves a version now, by a service's name."""
    version = {(each.service, str(each.revision)): each.version for each in became}
    known = [each for each in services if (each.name, str(each.stable)) in version]
    return [
        Serving(each.name, version[each.name, str(each.stable)], str(each.stable), each.stable_replicas, each.stopped)
        for each in sorted(known, key=lambda service: service.name)
    ]


def _serving(client: ApiClient, rows: Sequence[Serving]) -> None:
    components.section("What serves it")
    if not rows:
        components.line("No service serves a version of it now.")
        return
    table = [
        [each.service, str(each.version), each.revision, "stopped" if each.stopped else str(each.replicas)]
        for each in rows
    ]
    components.table([Column(title) for title in ("Service", "Version", "Revision", "Replicas")], table)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        service = st.selectbox("Service", [each.service for each in rows], width=220, key="back-service")
        at_once = st.checkbox("At once, unjudged", key="back-at-once")
        how = "all traffic as soon as its replicas are ready" if at_once else "step by step, judged like any other"
        text = f"A new rollout leads {service} back to the revision that served before: {how}."
        if confirmed(f"Roll {service} back", text, key="model-back") is not None:
            perform(lambda: client.roll_back(service, at_once=at_once), f"{service} goes back to what served before")


def _lineage(outcomes: Sequence[Outcome]) -> None:
    components.section("What became of each version")
    if not outcomes:
        components.line("No service has served one yet.")
        return
    titles = ("Version", "Service", "Revision", "From study", "Rollout", "Ended", "Why")
    rows = [
        [
            str(each.version),
            each.service,
            each.revision,
            each.study or words.NONE,
            each.rollout or words.NONE,
            words.NONE if each.state is None else markup.pill(each.state.value, _ENDED.get(each.state, theme.CANARY)),
            each.reason or words.NONE,
        ]
        for each in outcomes
    ]
    components.table([Column(title) for title in titles], rows)
