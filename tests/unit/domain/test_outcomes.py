"""What one record says, the same for everybody who reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.outcomes import EndLimits, Outcome, read_outcome, slowest_s, stall_limit_ms
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.slo import LatencyMetric, LatencySlo
from tests.builders_serving import a_gateway_record

TTFT = LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=500)
TPOT = LatencySlo(metric=LatencyMetric.TPOT, percentile=99, limit_ms=50)
E2E = LatencySlo(metric=LatencyMetric.E2E, percentile=99, limit_ms=5000)
ALL = (TTFT, TPOT, E2E)


def record(**changes: Any) -> GatewayRecord:
    """A good stream of eleven tokens."""
    times = {"output_tokens": 11, "ttft_ms": 100, "tpot_ms": 20, "e2e_ms": 300}
    return a_gateway_record(**times | changes)


UNANSWERED = {"ttft_ms": None, "tpot_ms": None, "output_tokens": None}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, Outcome.SERVED),
        ({"ttft_ms": 501}, Outcome.MISSED),
        ({"tpot_ms": None, "output_tokens": 1}, Outcome.SERVED),  # one token has no TPOT
        ({"stream": False, "ttft_ms": None, "tpot_ms": None, "e2e_ms": 4000}, Outcome.UNKNOWN),
        ({"stream": False, "ttft_ms": None, "tpot_ms": None, "e2e_ms": 400}, Outcome.SERVED),  # all within the least
        ({"stream": False, "ttft_ms": None, "tpot_ms": None, "e2e_ms": 6000}, Outcome.MISSED),
        ({"status": 502, "error": "upstream_5xx", **UNANSWERED}, Outcome.FAILED),
        ({"status": 504, "error": "upstream_timeout", **UNANSWERED}, Outcome.FAILED),
        ({"error": "truncated", "truncated": True}, Outcome.FAILED),
        ({"error": "upstream_stalled", "truncated": True}, Outcome.FAILED),
        ({"error": "upstream_error_event"}, Outcome.FAILED),
        ({"status": 400, "error": "upstream_4xx", **UNANSWERED}, Outcome.REFUSED_BY_ENGINE),
        ({"status": 429, "error": "quota", "engine_id": None, **UNANSWERED}, Outcome.REFUSED_BY_US),
        ({"status": 503, "error": "gateway_stopped", **UNANSWERED}, Outcome.INFRASTRUCTURE),
        ({"error": "gateway_stopped", "truncated": True}, Outcome.INFRASTRUCTURE),
        ({"status": 503, "error": "no_replica", "engine_id": None, **UNANSWERED}, Outcome.INFRASTRUCTURE),
        ({"status": 499, "client_gone": True, "e2e_ms": 499, **UNANSWERED}, Outcome.LEFT_EARLY),
        ({"status": 499, "client_gone": True, "e2e_ms": 20_000, **UNANSWERED}, Outcome.LEFT_LATE),
        ({"status": 499, "client_gone": True, "stream": False, "e2e_ms": 4000, **UNANSWERED}, Outcome.LEFT_EARLY),
        ({"status": 499, "client_gone": True, "stream": False, "e2e_ms": 20_000, **UNANSWERED}, Outcome.LEFT_LATE),
        ({"client_gone": True}, Outcome.LEFT_EARLY),
        ({"client_gone": True, "ttft_ms": 900}, Outcome.LEFT_LATE),
        ({"client_gone": True, "tpot_ms": 90}, Outcome.LEFT_LATE),
        ({"client_gone": True, "silent_ms": 999, "e2e_ms": 1400}, Outcome.LEFT_EARLY),
        ({"client_gone": True, "silent_ms": 1001, "e2e_ms": 1400}, Outcome.LEFT_LATE),  # twenty tokens' time
        (
            {"client_gone": True, "silent_ms": 1001, "tpot_ms": None, "output_tokens": 1},
            Outcome.LEFT_LATE,
        ),
    ],
)
def test_every_record_has_one_outcome(changes: dict[str, Any], outcome: Outcome) -> None:
    assert read_outcome(record(**changes), ALL).outcome is outcome


def test_a_reading_says_which_limits_were_missed_and_which_cannot_be_told() -> None:
    whole = read_outcome(record(stream=False, ttft_ms=None, tpot_ms=None, e2e_ms=6000), ALL)
    assert (whole.missed, whole.untold) == ((E2E,), (TTFT, TPOT))
    failed = read_outcome(record(status=502, error="upstream_5xx", **UNANSWERED), ALL)
    assert (failed.missed, failed.untold) == (ALL, ())


def test_a_stream_may_be_silent_as_long_as_the_widest_of_its_limits_allows() -> None:
    assert stall_limit_ms((TTFT,)) == 500
    assert stall_limit_ms((TTFT, TPOT)) == 1000
    assert stall_limit_ms((TTFT, TPOT.evolve(limit_ms=10))) == 500
    assert stall_limit_ms((E2E,)) is None


def test_leaving_a_silent_stream_breaks_the_limit_on_further_tokens_else_that_on_the_first() -> None:
    left = record(client_gone=True, silent_ms=300)
    assert read_outcome(left, ALL, time_lapse=4).missed == (TPOT,)
    assert read_outcome(left, (TTFT, E2E), time_lapse=4).missed == (TTFT,)
    assert read_outcome(left, (E2E,), time_lapse=4).outcome is Outcome.LEFT_EARLY


@pytest.mark.parametrize(
    ("changes", "slos", "missed"),
    [
        ({"e2e_ms": 1000, "ttft_ms": 900}, (TTFT, TPOT), False),  # 500 ms and ten tokens of 50
        ({"e2e_ms": 1001}, (TTFT, TPOT), True),
        ({"e2e_ms": 1001, "output_tokens": None}, (TTFT, TPOT), False),
        ({"e2e_ms": 4000}, (TTFT, E2E), False),
        ({"e2e_ms": 5001}, (TTFT, E2E), True),
        ({"e2e_ms": 9000}, (TTFT,), False),
        ({"status": 502, "error": "upstream_5xx", **UNANSWERED}, (TTFT,), True),
        ({"status": 499, "client_gone": True, "e2e_ms": 900, **UNANSWERED}, (TTFT,), True),
    ],
)
def test_as_a_whole_a_request_misses_what_its_limits_allow_together(
    changes: dict[str, Any], slos: tuple[LatencySlo, ...], missed: bool
) -> None:
    found = record(**changes)
    assert EndLimits.of(slos).missed(found, read_outcome(found, slos)) is missed


def test_limits_are_in_engine_time() -> None:
    assert read_outcome(record(ttft_ms=126), ALL, time_lapse=4).outcome is Outcome.MISSED
    assert read_outcome(record(ttft_ms=124), (TTFT,), time_lapse=4).outcome is Outcome.SERVED


@given(waited_ms=st.floats(0, 1e6), limit_ms=st.floats(1, 1e6))
def test_a_client_that_gave_up_missed_a_limit_exactly_when_it_had_passed(waited_ms: float, limit_ms: float) -> None:
    slo = TTFT.evolve(limit_ms=limit_ms)
    gone = record(status=499, client_gone=True, e2e_ms=waited_ms, **UNANSWERED)
    expected = Outcome.LEFT_LATE if waited_ms > limit_ms else Outcome.LEFT_EARLY
    assert read_outcome(gone, (slo,)).outcome is expected


def test_the_slowest_request_is_as_slow_as_the_gateway_lets_it_be() -> None:
    assert slowest_s(GatewayOptions()) == 600
    assert slowest_s(GatewayOptions(response_timeout_s=60)) == 180
