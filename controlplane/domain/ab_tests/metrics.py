"""What an A/B test measures, and what one request says of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

from controlplane.domain.door.outcomes import Outcome, read_outcome
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.slo import LatencySlo


class AbMetric(StrEnum):
    """Every figure is a user's mean over their requests, then the mean over users: each user counts once."""

    TTFT = "ttft"  # of streams; compared as a ratio of geometric means, like every latency and length
    TPOT = "tpot"
    E2E = "e2e"
    LENGTH = "length"  # tokens of an answer
    SLO_MISSES = "slo_misses"
    ERRORS = "errors"
    DECLINED = "declined"  # the model refused to answer, as the engine marks it
    CUT_BY_LENGTH = "cut_by_length"  # stopped by max_tokens, not by itself
    TOOL_CALLS_VALID = "tool_calls_valid"  # of answers with tool calls: all name a given tool, with arguments in JSON
    FEEDBACK = "feedback"  # scores of people, 0 to 1
    JUDGE = "judge"  # scores of the service's own judge command on sampled answers, 0 to 1

    @property
    def is_relative(self) -> bool:
        """True for what is compared in percent; the others are shares, compared in percentage points."""
        return self in _RELATIVE

    @property
    def better(self) -> int:
        """1 where more is better, -1 where less is, 0 where neither is."""
        return _BETTER[self]


_RELATIVE = frozenset({AbMetric.TTFT, AbMetric.TPOT, AbMetric.E2E, AbMetric.LENGTH})
_BETTER: Mapping[AbMetric, int] = {
    AbMetric.TTFT: -1,
    AbMetric.TPOT: -1,
    AbMetric.E2E: -1,
    AbMetric.LENGTH: 0,
    AbMetric.SLO_MISSES: -1,
    AbMetric.ERRORS: -1,
    AbMetric.DECLINED: -1,
    AbMetric.CUT_BY_LENGTH: -1,
    AbMetric.TOOL_CALLS_VALID: 1,
    AbMetric.FEEDBACK: 1,
    AbMetric.JUDGE: 1,
}

_LEAST_MS = 0.01
"""Below what a gateway's clock tells apart; a logarithm needs something above zero."""
_SAYS_NOTHING = frozenset({Outcome.INFRASTRUCTURE, Outcome.LEFT_EARLY, Outcome.REFUSED_BY_US})


def measured(record: GatewayRecord, slos: Sequence[LatencySlo], *, time_lapse: float = 1.0) -> Mapping[AbMetric, float]:
    """Return what one request says: shares from 0 to 1, and logarithms of what is compared in percent.

    Nothing for what says nothing of the engine, and of a metric that does not apply: one token has no TPOT.
    """
    reading = read_outcome(record, slos, time_lapse=time_lapse)
    if reading.outcome in _SAYS_NOTHING or record.retried or record.replayed:
        return {}
    found = {AbMetric.ERRORS: float(reading.outcome is Outcome.FAILED)}
    if reading.outcome not in (Outcome.UNKNOWN, Outcome.REFUSED_BY_ENGINE):
        found[AbMetric.SLO_MISSES] = float(reading.outcome is Outcome.FAILED or bool(reading.missed))
    if reading.ok:
        latencies = {AbMetric.TTFT: reading.ttft_ms, AbMetric.TPOT: reading.tpot_ms, AbMetric.E2E: reading.e2e_ms}
        found |= {metric: math.log(max(ms, _LEAST_MS)) for metric, ms in latencies.items() if ms is not None}
        found |= _of_answer(record)
    return found


def _of_answer(record: GatewayRecord) -> Mapping[AbMetric, float]:
    found: dict[AbMetric, float] = {}
    if record.output_tokens:
        found[AbMetric.LENGTH] = math.log(record.output_tokens)
    if record.stop is not None:
        found[AbMetric.DECLINED] = float(record.declined)
        found[AbMetric.CUT_BY_LENGTH] = float(record.stop == "length")
    if record.tool_calls:
        found[AbMetric.TOOL_CALLS_VALID] = float(not record.bad_tool_calls)
    return found
