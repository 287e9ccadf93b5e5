"""Guard rails: what ends a rollout in seconds, without statistics, because no wait could be justified. Pure.

They look at the canary's own failures only. What we cut ourselves (a gateway that was restarted) is no failure of it,
and what stable shows at the same time (errors, cut streams, hangs, empty answers) is not the canary's doing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from controlplane.domain.door.outcomes import ANSWERED, REFUSED, Outcome
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Analysis, Counts, Verdict
from controlplane.domain.rollouts.arm import Arm
from controlplane.domain.rollouts.comparing import Evidence, Flights
from controlplane.domain.rollouts.flights import HANGS_AT
from controlplane.domain.rollouts.judge import describe_load
from controlplane.domain.rollouts.rollout_options import RolloutOptions

BURST_MIN_REQUESTS = 5
"""Fewer finished requests than this in the guard's window are no burst, whatever their share."""

BURST_MIN_FAILED = 3
"""Nor are fewer failures: one among five is chance where one in a hundred fails."""

_WORSE = 2.0  # times what stable shows: less is not the canary's doing

ANSWER_WINDOWS = 12
"""What answers are like is looked at over so many of the guard's windows."""
ODD_MIN_ANSWERS = 10
_HANGING_SHARE = 0.1  # of what is in flight

Finished = Sequence[tuple[GatewayRecord, Outcome]]
Rail = tuple[str, str | None]
"""A guard rail's name, and why it was hit."""


def guard(
    arms: Sequence[Arm],
    evidence: Evidence,
    options: RolloutOptions,
    now: datetime,
    *,
    beside: Arm | None = None,
    engines: Sequence[Rail] = (),
) -> Analysis | None:
    """Return a FAIL when the canary (users' and replayed requests: `arms`) hits a guard rail, None otherwise.

    `beside` is stable's arm at the same time: what it shows too is not the canary's doing. `engines` are rails that
    the engines' own numbers were held to (`pressure`).
    """
    recent = [each for arm in arms for each in arm.lately(now, options.guard_window_s)]
    rails = (
        ("truncated", _truncated(evidence, options)),
        ("5xx_burst", _burst(recent, () if beside is None else beside.lately(now, options.guard_window_s), options)),
        ("hanging", _hanging(evidence, options)),
        ("empty_answers", _empty(recent, options)),
        *_answers(arms, beside, options, now),
        *engines,
        ("load_collapse", _collapse(evidence, options)),
    )
    hit = next(((rail, reason) for rail, reason in rails if reason is not None), None)
    if hit is None:
        return None
    return Analysis(
        verdict=Verdict.FAIL,
        reason=hit[1],
        at=now,
        canary=evidence.canary,
        stable=evidence.stable,
        replayed=evidence.replayed,
        load=evidence.load,
        guard=hit[0],
    )


def _truncated(evidence: Evidence, options: RolloutOptions) -> str | None:
    cut = evidence.canary.truncated + (evidence.replayed.truncated if evidence.replayed else 0)
    asked = evidence.canary.requests + (evidence.replayed.requests if evidence.replayed else 0)
    if cut < options.guard_truncated or cut <= _WORSE * asked * _cut_share(evidence.stable):
        return None
    return f"{cut} canary streams were truncated by the engine (limit {options.guard_truncated})"


def _cut_share(stable: Counts | None) -> float:
    return stable.truncated / stable.requests if stable is not None and stable.requests else 0.0


def _burst(recent: Finished, others: Finished, options: RolloutOptions) -> str | None:
    bad, counted = _failed(recent)
    least = max(BURST_MIN_FAILED, options.guard_5xx_ratio * counted)
    if counted < BURST_MIN_REQUESTS or bad < least:
        return None
    theirs, of = _failed(others)
    if of and bad / counted <= _WORSE * theirs / of:
        return None
    return f"{bad} of {counted} canary requests ended in 5xx within {options.guard_window_s:g} s"


def _failed(recent: Finished) -> tuple[int, int]:
    """Return how many ended in 5xx, and of how many that an engine answered or failed to."""
    counted = [record for record, outcome in recent if outcome in ANSWERED or outcome is Outcome.FAILED]
    return sum(record.status >= 500 for record in counted), len(counted)


def _hanging(evidence: Evidence, options: RolloutOptions) -> str | None:
    mine, others = evidence.canary_flights, evidence.stable_flights
    load = evidence.load
    if load is not None and load.hanging >= options.guard_hanging:
        return f"{load.hanging} replayed requests to the canary hang: no token, where others have theirs"
    if mine.hanging < options.guard_hanging or _share(mine) < max(_HANGING_SHARE, 2 * _share(others)):
        return None
    return f"{mine.hanging} of {mine.in_flight} canary requests in flight hang: no token in {HANGS_AT:g} limits"


def _collapse(evidence: Evidence, options: RolloutOptions) -> str | None:
    """Whatever stable would do at that load: it is what the canary is to carry, and it cannot."""
    load = evidence.load
    if load is None or load.proven or load.collapses < options.guard_collapses:
        return None
    return f"the canary collapses under the load it is to carry, {load.collapses} times in a row: {describe_load(load)}"


def _share(flights: Flights) -> float:
    return flights.hanging / flights.in_flight if flights.in_flight else 0.0


def _answers(
    arms: Sequence[Arm], beside: Arm | None, options: RolloutOptions, now: datetime
) -> Iterator[tuple[str, str | None]]:
    """What an answer says of the model that gave it, over a longer window: answers come more slowly than failures."""
    if beside is None:
        return
    window_s = ANSWER_WINDOWS * options.guard_window_s
    mine = [record for arm in arms for record, outcome in arm.lately(now, window_s) if outcome in ANSWERED]
    theirs = [record for record, outcome in beside.lately(now, window_s) if outcome in ANSWERED]
    for rail, said, odd in _ODD:
        yield rail, _odder(said, [odd(r) for r in mine], [odd(r) for r in theirs], options.guard_odd_ratio)


def _odder(said: str, mine: Sequence[bool | None], theirs: Sequence[bool | None], limit: float) -> str | None:
    """Compare the shares among answers of which it is known; too few on either side say nothing."""
    here, there = ([each for each in part if each is not None] for part in (mine, theirs))
    if min(len(here), len(there)) < ODD_MIN_ANSWERS or sum(here) / len(here) - sum(there) / len(there) < limit:
        return None
    return f"{sum(here)} of {len(here)} canary answers {said}, {sum(there)} of {len(there)} of stable's"


def _endless(record: GatewayRecord) -> bool | None:
    return None if record.stop is None else record.stop == "length"


def _over_at_once(record: GatewayRecord) -> bool | None:
    if record.stop is None or record.output_tokens is None:
        return None
    return record.stop == "stop" and record.output_tokens <= 1


_ODD = (
    ("endless_answers", "run on until their limit", _endless),  # a model that repeats itself never stops
    ("degenerate_answers", "are over after a token", _over_at_once),
    ("wrong_model", "name another model than was asked for", lambda record: record.other_model),
)


def _empty(recent: Finished, options: RolloutOptions) -> str | None:
    """Streams that ended well without a single token. A stable that does so too would be known by now."""
    streams = [(r, o) for r, o in recent if r.stream and o not in REFUSED]
    empty = sum(o in ANSWERED and r.ttft_ms is None for r, o in streams)
    if len(streams) < BURST_MIN_REQUESTS or empty < options.guard_empty_ratio * len(streams):
        return None
    return f"{empty} of {len(streams)} canary streams ended without a token within {options.guard_window_s:g} s"
