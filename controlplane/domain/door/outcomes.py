"""What one request record says: the one meaning that judge, live view, traces, replays and cost all use. Pure.

A request that was answered met its limits, missed some, or cannot tell (an answer in one piece has no first token). One
that was not answered was broken by the engine, refused, or cut by ourselves. A client that hung up says nothing while
every limit could still have been met; once one had passed, the miss is certain, whatever would have come. A stream
that had begun and fell silent is held to `stall_limit_ms`: nobody knows how long its answer would have been, so no
silence alone breaks a limit on the mean time per token, yet who leaves a silent stream has been let down.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.slo import LatencyMetric, LatencySlo

SILENT_TOKENS = 20
"""A stream that says nothing for so many tokens' time has stalled."""


class Outcome(StrEnum):
    """Exactly one for every record."""

    SERVED = "served"  # answered within every limit
    MISSED = "missed"  # answered, beyond one limit or more
    UNKNOWN = "unknown"  # answered; whether a limit was met cannot be told
    FAILED = "failed"  # the engine broke it: 5xx, no connection, cut, stalled, timed out
    REFUSED_BY_ENGINE = "refused_by_engine"  # the engine's own 4xx
    REFUSED_BY_US = "refused_by_us"  # a 4xx of the gateway: key, budget, queue
    INFRASTRUCTURE = "infrastructure"  # ours: the gateway was stopped, or had no replica to ask
    LEFT_EARLY = "left_early"  # the client hung up while every limit could still be met
    LEFT_LATE = "left_late"  # the client hung up after a limit had passed: a certain miss


class Reading(NamedTuple):
    """A record read once, latencies in engine time, milliseconds; None where the request never got that far."""

    outcome: Outcome
    missed: tuple[LatencySlo, ...]
    untold: tuple[LatencySlo, ...]  # limits of which the record cannot say whether they were met
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None

    @property
    def ok(self) -> bool:
        """Say whether an answer came to its end."""
        return self.outcome in ANSWERED


ANSWERED = frozenset({Outcome.SERVED, Outcome.MISSED, Outcome.UNKNOWN})
_MISSED_ANYHOW = frozenset({Outcome.FAILED, Outcome.LEFT_LATE})
REFUSED = frozenset({Outcome.REFUSED_BY_ENGINE, Outcome.REFUSED_BY_US})

_TURNED_AWAY = frozenset({"queue_full", "queue_timeout", "start_full", "start_timeout"})
OURS = frozenset({"gateway_stopped", "no_replica", "internal"}) | _TURNED_AWAY
"""Failure classes of records that say nothing about any engine."""
_ENGINE_REFUSED = "upstream_4xx"


def read_outcome(record: GatewayRecord, slos: Sequence[LatencySlo], *, time_lapse: float = 1.0) -> Reading:
    """Return what a record says against these limits; × `time_lapse` makes wall-clock milliseconds engine time."""
    ttft, tpot, e2e = (_lapsed(ms, time_lapse) for ms in (record.ttft_ms, record.tpot_ms, record.e2e_ms))
    plain = _unanswered(record)
    if plain is not None:
        missed = tuple(slos) if plain in (Outcome.FAILED, Outcome.INFRASTRUCTURE) else ()
        return Reading(plain, missed, (), ttft, tpot, e2e)
    stalled = _stalled(record, slos, time_lapse)
    judged = [(slo, slo in stalled or _missed(record, slo, ttft, tpot, e2e)) for slo in slos]
    missed = tuple(slo for slo, state in judged if state is True)
    untold = tuple(slo for slo, state in judged if state is None)
    return Reading(_answered(record, missed, untold), missed, untold, ttft, tpot, e2e)


def finished_at(record: GatewayRecord) -> datetime:
    """Return the wall-clock moment a request was over."""
    return record.at + timedelta(milliseconds=record.e2e_ms or 0.0)


def slowest_s(options: GatewayOptions) -> float:
    """Return the wall-clock seconds after which the gateway has given up every request that shows no sign of life."""
    return max(options.first_token_timeout_s + options.stall_timeout_s, options.response_timeout_s)


class EndLimits(NamedTuple):
    """Limits on when a request ends, ms of engine time: on the whole, and on its tokens where both have one."""

    whole_ms: float | None
    first_ms: float | None
    further_ms: float | None

    @classmethod
    def of(cls, slos: Sequence[LatencySlo]) -> EndLimits:
        """Return what these limits allow together; of several on the same metric the least."""
        least = {m: min((s.limit_ms for s in slos if s.metric is m), default=None) for m in LatencyMetric}
        return cls(least[LatencyMetric.E2E], least[LatencyMetric.TTFT], least[LatencyMetric.TPOT])

    def missed(self, record: GatewayRecord, reading: Reading) -> bool:
        """Say whether a request missed, as of an answer in one piece: nobody saw its tokens come.

        First and further tokens, each as late as it may be, end when the last one does. What was not answered, or too
        late for who waited, missed.
        """
        e2e_ms, tokens = reading.e2e_ms, record.output_tokens
        if reading.outcome in _MISSED_ANYHOW:
            return True
        if e2e_ms is None:
            return False
        if self.whole_ms is not None and e2e_ms > self.whole_ms:
            return True
        if self.first_ms is None or self.further_ms is None or not tokens:
            return False
        return e2e_ms > self.first_ms + self.further_ms * (tokens - 1)


def stall_limit_ms(slos: Sequence[LatencySlo]) -> float | None:
    """Return how long a stream that has begun may be silent, engine time: as long as a first token may take, and
    `SILENT_TOKENS` times what a token may take on average; of several limits the widest.

    None where neither is promised: a limit on the whole says by itself when it has passed.
    """
    first = [slo.limit_ms for slo in slos if slo.metric is LatencyMetric.TTFT]
    further = [SILENT_TOKENS * slo.limit_ms for slo in slos if slo.metric is LatencyMetric.TPOT]
    return max([*first, *further], default=None)


def _stalled(record: GatewayRecord, slos: Sequence[LatencySlo], time_lapse: float) -> Sequence[LatencySlo]:
    """Return the limits that a stall breaks: those on the time per token; where there is none, on the first token."""
    if not record.client_gone or record.silent_ms is None:
        return ()
    limit_ms = stall_limit_ms(slos)
    if limit_ms is None or record.silent_ms * time_lapse <= limit_ms:
        return ()
    further = [slo for slo in slos if slo.metric is LatencyMetric.TPOT]
    return further or [slo for slo in slos if slo.metric is LatencyMetric.TTFT]


def _unanswered(record: GatewayRecord) -> Outcome | None:
    """Return the outcome that no latency can change; None for answers and for clients that hung up."""
    if record.error in OURS:
        return Outcome.INFRASTRUCTURE
    if record.client_gone:
        return None
    if 400 <= record.status < 500:
        by_engine = record.error == _ENGINE_REFUSED or (record.error is None and record.engine_id is not None)
        return Outcome.REFUSED_BY_ENGINE if by_engine else Outcome.REFUSED_BY_US
    return None if record.ok and record.status < 500 else Outcome.FAILED


def _answered(record: GatewayRecord, missed: Sequence[LatencySlo], untold: Sequence[LatencySlo]) -> Outcome:
    if record.client_gone:
        return Outcome.LEFT_LATE if missed else Outcome.LEFT_EARLY
    if missed:
        return Outcome.MISSED
    return Outcome.UNKNOWN if untold else Outcome.SERVED


def _missed(
    record: GatewayRecord, slo: LatencySlo, ttft: float | None, tpot: float | None, e2e: float | None
) -> bool | None:
    """Say whether the limit was missed; None when the record cannot tell.

    `e2e` bounds what was not seen: the first token of an answer in one piece came no later than its end, and that of a
    stream which a client did not wait for no earlier than it left. Of an answer in one piece that nobody waited for
    the first token may have come at any time.
    """
    match slo.metric:
        case LatencyMetric.TTFT:
            if ttft is not None:
                return ttft > slo.limit_ms
            if record.client_gone:
                return _beyond(e2e, slo.limit_ms) if record.stream else None
            return _within(e2e, slo.limit_ms)
        case LatencyMetric.TPOT:
            return _tpot_missed(record, slo.limit_ms, tpot, e2e)
        case LatencyMetric.E2E:
            if record.client_gone:
                return _beyond(e2e, slo.limit_ms)
            return None if e2e is None else e2e > slo.limit_ms


def _tpot_missed(record: GatewayRecord, limit_ms: float, tpot: float | None, e2e: float | None) -> bool | None:
    """An answer of one token has no TPOT and passes. A client that left is judged by what was streamed to it."""
    if tpot is not None:
        return tpot > limit_ms
    tokens = record.output_tokens
    if record.client_gone or tokens is None:
        return None
    if tokens <= 1:
        return False
    return _within(None if e2e is None else e2e / (tokens - 1), limit_ms)


def _within(most: float | None, limit_ms: float) -> bool | None:
    """An upper bound tells only that a limit was met."""
    return False if most is not None and most <= limit_ms else None


def _beyond(least: float | None, limit_ms: float) -> bool | None:
    """A lower bound tells only that a limit was missed."""
    return True if least is not None and least > limit_ms else None


def _lapsed(wall_ms: float | None, time_lapse: float) -> float | None:
    return None if wall_ms is None else wall_ms * time_lapse
