"""Events: the audit. Who did what to which thing, why and when."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from controlplane.domain.event import Event
from dashboards import components
from dashboards.client import ApiClient
from dashboards.markup import Column

EVERY_SERVICE = "all services"
_SHOWN = 200
"""So many lines are read without `Find`; they are a table that wraps, so that no reason is cut."""


def show(client: ApiClient) -> None:
    """Render the page."""
    names = [service.name for service in client.services()]
    components.headline("Events", "Who did what, why and when · newest first, UTC")
    with st.container(horizontal=True):
        chosen = st.selectbox("Service", [EVERY_SERVICE, *names], width=220, key="event-service")
        text = st.text_input("Find", placeholder="rollout, abort, a key's name …", width=320, key="event-text")
    events = client.events(service=None if chosen == EVERY_SERVICE else chosen, limit=500)
    if not events:
        components.note(
            "Nothing happened yet", "Every change of the control plane appears here:", "fleetune up -f service.yaml"
        )
        return
    found = matching(events, text)
    if not found:
        components.note("No such event", f"None of the newest {len(events)} events holds “{text}”.")
        return
    if len(found) > _SHOWN:
        components.line(f"The newest {_SHOWN} of {len(found)}; Find narrows them down.")
    components.table([Column(title) for title in ("When, UTC", "Who", "What", "To", "Why")], rows(found[:_SHOWN]))


def matching(events: Sequence[Event], text: str) -> list[Event]:
    """Return the events that hold `text` anywhere, whatever its case."""
    wanted = text.casefold()
    return [e for e in events if wanted in f"{e.actor} {e.action} {e.subject} {e.service} {e.reason}".casefold()]


def rows(events: Sequence[Event]) -> list[list[str]]:
    """Return one row per event."""
    return [
        [
            event.at.strftime("%Y-%m-%d %H:%M:%S"),
            event.actor,
            event.action,
            event.subject,
            " · ".join(filter(None, [event.reason, *_details(event)])),
        ]
        for event in events
    ]


def _details(event: Event) -> list[str]:
    return [f"{key} {value}" for key, value in event.details.items()]
