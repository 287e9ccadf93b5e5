"""Writes of a controller that does not lead any more are refused by the store itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.adapters.store_sql.fence import LEADER
from controlplane.adapters.store_sql.store import SqlStore, open_store
from controlplane.domain.errors import Deposed
from controlplane.domain.event import Event
from controlplane.host.clock import utc_now
from tests.postgres import PostgresCluster


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    cluster: PostgresCluster = request.getfixturevalue("cluster")
    yield cluster.new_database()


def leader(url: str) -> SqlStore:
    """Return the store of a controller that has just taken the lead."""
    shared = open_store(url)
    number = shared.next_number(LEADER)
    shared.close()
    return SqlStore(url, leader=number)


def event(reason: str) -> Event:
    return Event(at=utc_now(), actor="controller", action="a", subject="s", service=None, reason=reason)


def test_a_leader_writes_until_another_has_taken_over(url: str) -> None:
    first = leader(url)
    first.add_event(event("one"))
    second = leader(url)
    with pytest.raises(Deposed):
        first.add_event(event("late"))
    with pytest.raises(Deposed):
        first.next_number("engine/chat")
    second.add_event(event("two"))
    assert [each.reason for each in second.list_events()] == ["two", "one"]
    assert [each.reason for each in first.list_events()] == ["two", "one"]  # it may look
    for store in (first, second):
        store.close()


def test_who_is_no_controller_writes_whoever_leads(url: str) -> None:
    worker, controller = open_store(url), leader(url)
    worker.add_event(event("of a worker"))
    assert worker.next_number("x") == 1
    for store in (worker, controller):
        store.close()
