"""What gateways tell of requests in flight: of one session among others some only."""

from __future__ import annotations

from controlplane.gateway.flights import MOST_OF_A_SESSION, Flights
from tests.unit.gateway.test_ending import an_exchange

NOW_S = 100.0


def told(*sessions: str | None) -> tuple[int, int]:
    """Return how many are in flight, and of how many it is told how long they have waited."""
    flights = Flights(lambda: NOW_S)
    tallies = [an_exchange().tally for _ in sessions]
    for tally, session in zip(tallies, sessions, strict=True):
        tally.call = tally.call._replace(session_hash=session)
        flights.began(tally)
    (part,) = flights.told()
    assert all(wait == NOW_S for wait in part.whole_s)
    return part.requests, len(part.whole_s)


def test_of_a_session_among_others_two_waits_are_told_and_all_its_requests() -> None:
    """A user of endless answers, all far beyond a limit on the whole, would look like an engine that hangs."""
    assert told("heavy", "heavy", "heavy", "other", "heavy", None, None) == (7, MOST_OF_A_SESSION + 3)


def test_of_a_session_that_is_alone_all_waits_are_told() -> None:
    assert told("one", "one", "one", "one") == (4, 4)
