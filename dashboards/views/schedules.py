"""Schedules: what happens by itself, and when."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from controlplane.domain.schedule import Schedule, ScheduledAction
from dashboards import components, markup, theme, words
from dashboards.client import ApiClient
from dashboards.components import confirmed
from dashboards.markup import Column
from dashboards.page import choose_service, due_replays, no_service, perform

_ADDED = "schedules-added"
_ACTION = {
    ScheduledAction.TUNE: "tune, recommend only",
    ScheduledAction.TUNE_AND_APPLY: "tune, then roll out the winner",
    ScheduledAction.REPLAY: "replay, compare with the baseline",
}


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    if not services:
        no_service("Schedules")
        return
    service = choose_service(services)
    schedules = client.schedules(service.name)
    components.headline("Schedules", f"{service.name} · all times UTC")
    if schedules:
        _table(schedules)
        due_replays(client, schedules)
        _actions(client, schedules)
    else:
        text = "A schedule re-tunes or replays a service at fixed times, say every Sunday at 02:00. Add one below, or:"
        components.note("No schedule yet", text, f"fleetune schedule create {service.name} weekly --cron '0 2 * * SUN'")
    _form(client, service.name)


def _table(schedules: Sequence[Schedule]) -> None:
    titles = ("", "Name", "Cron", "Does", "Next", "Last", "Last study")
    rows = [
        [
            _state(each),
            each.spec.name,
            each.spec.cron,
            _ACTION[each.spec.action],
            words.NONE if each.spec.paused else words.moment(each.next_at),
            words.moment(each.last_at),
            each.last_study or words.NONE,
        ]
        for each in schedules
    ]
    components.table([Column(title) for title in titles], rows)


def _state(schedule: Schedule) -> str:
    if schedule.replay_run is not None:
        return markup.pill("replaying" if schedule.replay_run.worker else "waits for a worker", theme.CANARY)
    return markup.pill("paused", theme.WARN) if schedule.spec.paused else markup.pill("active", theme.GOOD)


def _actions(client: ApiClient, schedules: Sequence[Schedule]) -> None:
    by_name = {each.spec.name: each for each in schedules}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Schedule", list(by_name), width=220, key="schedule")
        chosen = by_name[name]
        switch = "resume" if chosen.spec.paused else "pause"
        if st.button(f"{switch.capitalize()} {name}", key="schedule-switch"):
            _act(client, chosen, switch)
        if confirmed(f"Run {name}", _consequence(chosen), key="trigger") is not None:
            _act(client, chosen, "trigger")
        if confirmed(f"Delete {name}", "It will not fire again. Past studies are kept.", key="delete") is not None:
            perform(lambda: client.delete_schedule(chosen.service, name), f"{name} is deleted")


def _consequence(schedule: Schedule) -> str:
    what = "replay" if schedule.spec.action is ScheduledAction.REPLAY else "study"
    return f"Starts a {what} at once; the next firing stays as it is."


def _act(client: ApiClient, schedule: Schedule, verb: str) -> None:
    name = schedule.spec.name
    perform(lambda: client.schedule_act(schedule.service, name, verb), f"{name}: {verb} done")


def _form(client: ApiClient, service: str) -> None:
    components.section("Add a schedule")
    added = st.session_state.get(_ADDED, 0)
    with st.form(f"new-schedule-{added}"):  # a new form after each success: one that was refused keeps its fields
        left, middle, right, last = st.columns((2, 2, 3, 2))
        name = left.text_input("Name", placeholder="weekly")
        cron = middle.text_input("Five cron fields, UTC", placeholder="0 2 * * SUN")
        action = right.selectbox("Does", list(_ACTION), format_func=lambda a: _ACTION[a])
        rate = last.number_input("Replay's rate, req/s", min_value=0.1, value=1.0, help="Only for replays.")
        asked = st.form_submit_button("Add schedule")

    def add() -> None:
        client.add_schedule(service, name, cron, action, replay_rps=rate)
        st.session_state[_ADDED] = added + 1

    if asked:
        perform(add, f"{name} is added")
