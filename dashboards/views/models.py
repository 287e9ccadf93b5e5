"""Models: which versions there are, what their aliases point to, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from controlplane.domain.models import CANDIDATE, STABLE, Outcome, RegisteredModel
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.words import counted
from dashboards import components, markup, theme, words
from dashboards.client import ApiClient
from dashboards.components import confirmed
from dashboards.markup import Column
from dashboards.page import choose_one, no_service, perform

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
    _lineage(client.lineage(model.name))


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
