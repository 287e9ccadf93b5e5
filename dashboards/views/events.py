"""Events: the audit. Who did what to which thing, why and when."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from controlplane.domain.event import Event
from dashboards import components
from dashboards.client import ApiClient

EVERY_SERVICE = "all services"
_WIDTHS_PX = {"when, UTC": 145, "who": 90, "what": 125, "to": 150, "why": 350}  # all in sight at 1280 px


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
    st.dataframe(
        event_frame(found),
        hide_index=True,
        height=min(640, 38 + 35 * len(found)),
        column_config={name: st.column_config.TextColumn(width=width) for name, width in _WIDTHS_PX.items()},
    )


def matching(events: Sequence[Event], text: str) -> list[Event]:
    """Return the events that hold `text` anywhere, whatever its case."""
    wanted = text.casefold()
    return [e for e in events if wanted in f"{e.actor} {e.action} {e.subject} {e.service} {e.reason}".casefold()]


def event_frame(events: Sequence[Event]) -> pd.DataFrame:
    """Return one row per event."""
    return pd.DataFrame(
        [
            {
                "when, UTC": event.at.strftime("%Y-%m-%d %H:%M:%S"),
                "who": event.actor,
                "what": event.action,
                "to": event.subject,
                "why": " · ".join([event.reason, *_details(event)] if event.reason else _details(event)),
            }
            for event in events
        ]
    )


def _details(event: Event) -> list[str]:
    return [f"{key} {value}" for key, value in event.details.items()]
