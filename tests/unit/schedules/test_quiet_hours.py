"""A schedule that cannot fire now says so at once, and one whose quiet hours have begun says when it will."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.errors import Conflict
from controlplane.domain.schedule import (
    ReplayRun,
    ReplaySpec,
    Schedule,
    ScheduledAction,
    ScheduleSpec,
    within_hours,
)
from controlplane.services.schedules import trigger_schedule, upcoming
from tests.builders_serving import CHAT
from tests.fakes.store import FakeStore

NIGHT = ReplaySpec(rate_rps=1, quiet_from=time(1), quiet_to=time(5))
NIGHTLY = ScheduleSpec(name="nightly", cron="0 1 * * *", action=ScheduledAction.REPLAY, replay=NIGHT)


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 2, hour, minute, tzinfo=UTC)


def nightly(**changes: object) -> Schedule:
    return Schedule(service=CHAT, spec=NIGHTLY, next_at=NIGHTLY.next_after(at(3))).evolve(**changes)


def triggered(schedule: Schedule, now: datetime) -> Schedule:
    store = FakeStore()
    store.save_schedule(schedule, 0)
    return trigger_schedule(store, CHAT, "nightly", actor="ops", now=now)


@given(moment=st.times(), start=st.times(), end=st.times())
def test_a_moment_is_within_either_the_hours_or_their_complement(moment: time, start: time, end: time) -> None:
    if start != end:
        assert within_hours(moment, start, end) != within_hours(moment, end, start)


@pytest.mark.parametrize("hour", [0, 5, 12, 23])
def test_outside_the_quiet_hours_a_trigger_is_refused_with_them(hour: int) -> None:
    with pytest.raises(Conflict, match=r"outside its quiet hours \(allowed: from 01:00 to 05:00 UTC\)") as refused:
        triggered(nightly(), at(hour))
    assert f"{hour:02}:00 UTC" in str(refused.value)


@pytest.mark.parametrize("hour", [1, 4])
def test_within_the_quiet_hours_a_trigger_makes_it_due(hour: int) -> None:
    assert triggered(nightly(), at(hour)).next_at == at(hour)


def test_while_a_replay_is_under_way_a_trigger_is_refused() -> None:
    running = nightly(replay_run=ReplayRun(number=7, due_at=at(1)))
    with pytest.raises(Conflict, match="replay 7 is not over"):
        triggered(running, at(3))


def test_a_start_in_the_middle_of_the_quiet_hours_says_what_it_does_not_do_and_how_to_have_it() -> None:
    said = upcoming(nightly(), at(3))
    assert "fires next at 2026-03-03 01:00 UTC: its quiet hours have begun" in said
    assert "fleetune schedule trigger chat nightly" in said


def test_a_start_outside_the_quiet_hours_only_says_when_it_fires() -> None:
    assert upcoming(nightly(), at(12)) == "chat/nightly fires next at 2026-03-03 01:00 UTC"


def test_a_paused_schedule_is_said_to_be_paused() -> None:
    assert upcoming(nightly(spec=NIGHTLY.evolve(paused=True)), at(3)) == "chat/nightly is paused"
