"""What is in flight, against the limits."""

from __future__ import annotations

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import InFlight
from controlplane.domain.rollouts.comparing import Flights
from controlplane.domain.rollouts.flights import flights_of
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet

REV = RevisionId("rev")
SLOS = SloSet(
    latency=(
        LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=2000),
        LatencySlo(metric=LatencyMetric.E2E, percentile=99, limit_ms=20_000),
    ),
    target_qps=1,
)


def test_streams_are_held_to_the_first_token_and_whole_answers_to_their_end() -> None:
    part = InFlight(service="chat", revision=REV, requests=6, without_token_s=(1.0, 3.0, 11.0), whole_s=(15.0, 25.0))
    other = InFlight(service="chat", revision=None, requests=3, without_token_s=(99.0,))
    assert flights_of([part, other], REV, SLOS, 1.0) == Flights(in_flight=6, overdue=3, hanging=1)


def test_streams_that_have_begun_are_held_to_how_long_they_may_be_silent_and_to_their_end() -> None:
    begun = ((3.0, 1.9), (3.0, 2.1), (19.0, 11.0), (21.0, 0.1))
    part = InFlight(service="chat", revision=REV, requests=4, begun_s=begun)
    assert flights_of([part], REV, SLOS, 1.0) == Flights(in_flight=4, overdue=3, hanging=1)
    assert flights_of([part], REV, SLOS, 0.5) == Flights(in_flight=4, overdue=1)


def test_waits_are_wall_clock_and_limits_engine_time() -> None:
    part = InFlight(service="chat", revision=REV, requests=1, without_token_s=(0.6,))
    assert flights_of([part], REV, SLOS, 4.0).overdue == 1
    assert flights_of([part], REV, SLOS, 1.0).overdue == 0


def test_gateways_are_added_up_and_without_such_a_limit_nothing_is_late() -> None:
    part = InFlight(service="chat", revision=REV, requests=2, without_token_s=(100.0, 100.0))
    tpot = SloSet(latency=(LatencySlo(metric=LatencyMetric.TPOT, percentile=99, limit_ms=50),), target_qps=1)
    assert flights_of([part, part], REV, SLOS, 1.0) == Flights(in_flight=4, overdue=4, hanging=4)
    assert flights_of([part, part], REV, tpot, 1.0) == Flights(in_flight=4)
