"""A/B tests in the store: one suite for the fake, SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from controlplane.domain.ab_tests.ab_test import AbState, AbTestId
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import Conflict, NotFound, StaleVersion
from controlplane.domain.event import Event
from controlplane.ports.store import Store
from tests.builders_ab import a_judged_test, an_ab_test
from tests.builders_serving import CHAT, NOW
from tests.contract.test_store_races import at_once


def test_a_test_reads_back_as_it_was_saved_with_its_event(store: Store) -> None:
    test = a_judged_test(NOW)
    event = Event(at=NOW, actor="ann", action="ab_test.concluded", subject=f"ab-test/{test.test_id}", service=CHAT)
    version = store.save_ab_test(test, 0, events=[event])
    assert store.get_ab_test(test.test_id) == (test, version)
    assert list(store.list_events(subject="ab-test/chat-ab1")) == [event]
    with pytest.raises(NotFound, match="no A/B test 'chat-ab2'"):
        store.get_ab_test(AbTestId("chat-ab2"))


def test_tests_are_listed_newest_first_per_service(store: Store) -> None:
    for number in (1, 2, 3):
        store.save_ab_test(an_ab_test(f"chat-ab{number}", state=AbState.STOPPED), 0)
    store.save_ab_test(an_ab_test("mail-ab1", service=ServiceName("mail")), 0)
    assert [row.value.test_id for row in store.list_ab_tests(CHAT, limit=2)] == ["chat-ab3", "chat-ab2"]
    assert [row.value.test_id for row in store.list_ab_tests(limit=1)] == ["mail-ab1"]


def test_a_service_has_one_test_that_is_not_over(store: Store) -> None:
    version = store.save_ab_test(an_ab_test(), 0)
    with pytest.raises(Conflict, match="chat-ab1 is starting"):
        store.save_ab_test(an_ab_test("chat-ab2"), 0)
    store.save_ab_test(an_ab_test(state=AbState.STOPPED), version)
    store.save_ab_test(an_ab_test("chat-ab2"), 0)
    with pytest.raises(StaleVersion):
        store.save_ab_test(an_ab_test(state=AbState.CONCLUDED), version)


def test_of_tests_started_at_once_one_is_kept(store: Store) -> None:
    found = at_once(lambda number: store.save_ab_test(an_ab_test(f"chat-ab{number}"), 0), 4)
    assert sum(isinstance(each, int) for each in found) == 1
    assert sum(isinstance(each, Conflict | StaleVersion) for each in found) == 3
    assert len(store.list_ab_tests(CHAT)) == 1
