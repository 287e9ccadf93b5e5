"""What requests in flight already say: those beyond a limit have missed it, whenever they will end. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.base import RevisionId
from controlplane.domain.door.outcomes import stall_limit_ms
from controlplane.domain.door.routing import InFlight
from controlplane.domain.rollouts.comparing import Flights
from controlplane.domain.slo import LatencyMetric, SloSet

HANGS_AT = 5.0
"""A request that has waited for so many times a limit is not slow: it hangs."""


def flights_of(told: Sequence[InFlight], revision: RevisionId, slos: SloSet, time_lapse: float) -> Flights:
    """Return one revision's requests in flight at all gateways, and how many have waited beyond a limit.

    A stream without a token is beyond a limit on the first token or on the whole, an answer in one piece beyond one on
    the whole; a stream that has begun beyond one on the whole, or silent for longer than `stall_limit_ms`. Waits are
    wall-clock, limits engine time.
    """
    mine = [part for part in told if part.revision == revision]
    first = _least_ms(slos, LatencyMetric.TTFT, LatencyMetric.E2E)
    whole, stall = _least_ms(slos, LatencyMetric.E2E), stall_limit_ms(slos.latency)
    begun = [each for part in mine for each in part.begun_s]

    def late(times: float) -> int:
        lapse = time_lapse / times
        unbegun = sum(_beyond(p.without_token_s, first, lapse) + _beyond(p.whole_s, whole, lapse) for p in mine)
        return unbegun + sum(_is_beyond(age, whole, lapse) or _is_beyond(silent, stall, lapse) for age, silent in begun)

    return Flights(in_flight=sum(part.requests for part in mine), overdue=late(1.0), hanging=late(HANGS_AT))


def _least_ms(slos: SloSet, *metrics: LatencyMetric) -> float | None:
    return min((slo.limit_ms for slo in slos.latency if slo.metric in metrics), default=None)


def _beyond(waits_s: Sequence[float], limit_ms: float | None, time_lapse: float) -> int:
    return sum(_is_beyond(each, limit_ms, time_lapse) for each in waits_s)


def _is_beyond(wait_s: float, limit_ms: float | None, time_lapse: float) -> bool:
    return limit_ms is not None and 1000 * wait_s * time_lapse > limit_ms
