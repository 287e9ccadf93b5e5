"""What the Events page says of each event."""

from __future__ import annotations

from datetime import UTC, datetime

from controlplane.domain.event import Event
from dashboards.views.events import matching, rows

_EVENT = Event(
    at=datetime(2026, 11, 29, 7, 5, tzinfo=UTC),
    actor="schedule/weekly",
    action="study.created",
    subject="study/st-1",
    reason="every Sunday",
    details={"seed": "7"},
)


def test_a_row_says_when_who_what_to_what_and_why() -> None:
    assert rows([_EVENT]) == [
        ["2026-11-29 07:05:00", "schedule/weekly", "study.created", "study/st-1", "every Sunday · seed 7"]
    ]


def test_events_are_found_by_any_word_of_theirs() -> None:
    assert [len(matching([_EVENT], text)) for text in ("WEEKLY", "sunday", "st-1", "rollout")] == [1, 1, 1, 0]
