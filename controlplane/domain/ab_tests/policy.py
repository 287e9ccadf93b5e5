"""What a test does next. Pure: a test, the facts of this moment and the time in; the next test out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.domain.ab_tests.ab_test import AB_TRANSITIONS, AbAnalysis, AbState, AbTest
from controlplane.domain.base import Value
from controlplane.domain.errors import Conflict
from controlplane.domain.event import Event


class AbFacts(Value):
    """What the controller saw in this pass."""

    ready: bool = False  # every challenger has its replicas
    exits: int = 0  # engines of challengers that exited or never became ready
    exit_reason: str = ""
    refused: str | None = None  # why a challenger can never be started here
    shortage: str | None = None  # why challengers cannot be started now
    ended: str | None = None  # why the test cannot go on: a rollout, another stable revision, a stopped service
    analysis: AbAnalysis | None = None  # None: nothing new to judge


def advance(test: AbTest, facts: AbFacts, now: datetime) -> AbTest:
    """Return what the test becomes; the same value when nothing changed."""
    if test.is_over:
        return test
    broken = facts.ended or facts.refused or _crashed(test, facts)
    if broken is not None:
        return move(test, AbState.STOPPED, reason=broken, now=now)
    return _starting(test, facts, now) if test.state is AbState.STARTING else _running(test, facts, now)


def move(test: AbTest, state: AbState, *, reason: str, now: datetime, **changes: Any) -> AbTest:
    """Return the test in `state`. Raises Conflict when the table of transitions does not allow it."""
    followers = AB_TRANSITIONS[test.state]
    if state not in followers:
        allowed = ", ".join(sorted(follower.value for follower in followers)) or "nothing: it is over"
        raise Conflict(f"{test.test_id} cannot become {state}", why=f"it is {test.state}", allowed=allowed)
    finished_at = now if not AB_TRANSITIONS[state] else None
    return test.evolve(state=state, reason=reason, finished_at=finished_at, **changes)


def event_of(test: AbTest, *, actor: str, now: datetime) -> Event:
    """Return what the audit says of a test that came into its state."""
    subject = f"ab-test/{test.test_id}"
    return Event(
        at=now, actor=actor, action=f"ab_test.{test.state}", subject=subject, service=test.service, reason=test.reason
    )


def _crashed(test: AbTest, facts: AbFacts) -> str | None:
    if facts.exits < test.options.guard_crashes:
        return None
    return f"engines of challengers exited {facts.exits} times: {facts.exit_reason}"


def _starting(test: AbTest, facts: AbFacts, now: datetime) -> AbTest:
    if facts.ready:
        return move(test, AbState.RUNNING, reason="traffic is split", now=now, started_at=now, short_since=None)
    if facts.shortage is None:
        return test if test.short_since is None else test.evolve(short_since=None)
    since = test.short_since or now
    if (now - since).total_seconds() >= test.options.capacity_wait_s:
        return move(test, AbState.STOPPED, reason=f"no room for the challengers: {facts.shortage}", now=now)
    return test if test.short_since is not None else test.evolve(short_since=now)


def _running(test: AbTest, facts: AbFacts, now: datetime) -> AbTest:
    found = facts.analysis
    if found is None:
        return test
    judged = test.evolve(analysis=found)
    if found.harm is not None:
        return move(judged, AbState.STOPPED, reason=found.harm, now=now)
    hours = _hours(test, now)
    answer = _answer(test, found) if hours >= test.options.min_hours else None
    if answer is None and hours >= test.options.max_hours:
        answer = _at_the_end(test, found)
    return judged if answer is None else move(judged, AbState.CONCLUDED, reason=answer, now=now)


def _answer(test: AbTest, found: AbAnalysis) -> str | None:
    """Return the answer to the question; None while there is none."""
    if found.problem is not None:
        return None
    if found.winner is not None:
        return f"{test.named(found.winner)} is better"
    return f"no arm differs by {test.options.minimum_effect_percent:g} or more" if found.alike else None


def _hours(test: AbTest, now: datetime) -> float:
    assert test.started_at is not None, "a running test was started"
    return (now - test.started_at).total_seconds() / 3600


def _at_the_end(test: AbTest, found: AbAnalysis) -> str:
    if found.problem is not None:
        return f"the arms could not be compared: {found.problem}"
    return f"undecided after {test.options.max_hours:g} h, the longest it may take"
