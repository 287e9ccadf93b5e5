"""A session that is most of the traffic does not decide alone what a canary gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base import RevisionId
from controlplane.gateway.pools import Pool
from controlplane.gateway.sessions import LEAST, WINDOW, Sessions

CANARY = (Pool(RevisionId("stable"), 95), Pool(RevisionId("canary"), 5))


def asked(*sessions: str) -> Sessions:
    seen = Sessions()
    for session in sessions:
        seen.note(session)
    return seen


def test_a_constant_session_dominates_after_a_few_requests() -> None:
    assert not asked(*["app"] * (LEAST - 1)).dominates("app", CANARY)
    assert asked(*["app"] * LEAST).dominates("app", CANARY)


def test_one_of_many_sessions_does_not_dominate() -> None:
    many = [f"s{number % 50}" for number in range(WINDOW)]
    assert not any(asked(*many).dominates(session, CANARY) for session in many)


def test_with_one_revision_there_is_nothing_to_bend() -> None:
    only = (Pool(RevisionId("stable"), 100), Pool(RevisionId("old"), 0))
    assert not asked(*["app"] * 100).dominates("app", only)


def test_a_session_is_large_where_only_one_revision_serves_as_at_a_first_step() -> None:
    only, many = (Pool(RevisionId("stable"), 100),), [f"s{number % 50}" for number in range(WINDOW)]
    assert asked(*["app"] * LEAST).is_large("app", only)
    assert asked(*["app"] * LEAST).is_large("app", CANARY)
    assert not any(asked(*many).is_large(session, only) for session in many)


@given(st.lists(st.sampled_from("abcdef"), max_size=2 * WINDOW))
def test_only_the_latest_requests_count(sessions: list[str]) -> None:
    again = asked(*sessions)
    latest = asked(*sessions[-WINDOW:])
    assert [again.dominates(s, CANARY) for s in "abcdef"] == [latest.dominates(s, CANARY) for s in "abcdef"]
