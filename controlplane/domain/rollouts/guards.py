"""Guard rails: what ends a rollout in seconds, without statistics, because no wait could be justified. Pure.

They look at the canary's own failures only. What we cut ourselves (a gateway that was restarted) is no failure of it,
and what stable shows at the same time (errors, cut streams, hangs, empty answers) is not the canary's doing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.door.outcomes import ANSWERED, REFUSED, Outcome, finished_at
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.enough import at_most
from controlplane.domain.rollouts.analysis import Analysis, Counts, Verdict
from controlplane.domain.rollouts.anytime import miss_ratio_bounds
from controlplane.domain.rollouts.arm import MOST_CUT, NEWEST, Arm, cluster_of
from controlplane.domain.rollouts.comparing import Evidence, Flights
from controlplane.domain.rollouts.counting import add, cut_of
from controlplane.domain.rollouts.flights import HANGS_AT
from controlplane.domain.rollouts.judge import describe_load
from controlplane.domain.rollouts.rollout_options import RolloutOptions

BURST_MIN_REQUESTS = 5
"""Fewer finished requests than this in the guard's window are no burst, whatever their share."""

BURST_MIN_FAILED = 3
"""Nor are fewer failures: one among five is chance where one in a hundred fails."""

BURST_CHANCE = 1e-4
"""How often a window of an equal canary may look like a burst: a step of ten minutes has 120 windows of 5 s."""

_WORSE = 2.0  # times what stable shows: less is not the canary's doing

ANSWER_WINDOWS = 12
"""What answers are like is looked at over so many of the guard's windows; where fewer came, over the newest ones."""
ODD_MIN_ANSWERS = NEWEST
ODD_OF_A_SESSION = 3
"""The newest ones of a session that are looked at: a user of answers of one token makes no canary degenerate."""
_HANGING_SHARE = 0.1  # of what is in flight

Finished = Sequence[tuple[GatewayRecord, Outcome]]
Odd = Callable[[GatewayRecord], bool | None]
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
    others = () if beside is None else beside.lately(now, options.guard_window_s)
    rails = (
        ("truncated", _truncated(evidence, options)),
        ("5xx_burst", _burst(recent, others, evidence, options)),
        ("hanging", _hanging(evidence, options)),
        ("empty_answers", _empty(recent, others, options)),
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
    cut = cut_of(evidence.canary) + (cut_of(evidence.replayed) if evidence.replayed else 0)
    asked = evidence.canary.requests + (evidence.replayed.requests if evidence.replayed else 0)
    if cut < options.guard_truncated or not _more_than_its_part(cut, asked, _stables(evidence), options):
        return None
    return f"{cut} canary streams were truncated by the engine (limit {options.guard_truncated})"


def _stables(evidence: Evidence) -> Counts | None:
    """Return what stable showed, in the step and in the ten minutes before it; None where nothing is known."""
    known = [each for each in (evidence.stable, evidence.before) if each is not None and each.requests]
    return add(known) if known else None


def _more_than_its_part(cut: int, asked: int, stable: Counts | None, options: RolloutOptions) -> bool:
    """Say whether the canary has certainly more of all streams that were cut than of the requests.

    Of an equal one each cut stream is the canary's with the probability of any request.
    """
    if stable is None:
        return True
    low, _ = miss_ratio_bounds(cut, cut + cut_of(stable), options.false_abort_per_step)
    return low > asked / (asked + stable.requests)


def _burst(recent: Finished, others: Finished, evidence: Evidence, options: RolloutOptions) -> str | None:
    bad, counted = _failed(recent)
    least = max(BURST_MIN_FAILED, options.guard_5xx_ratio * counted)
    if counted < BURST_MIN_REQUESTS or bad < least:
        return None
    theirs, of = _failed(others)
    if (of and bad / counted <= _WORSE * theirs / of) or _may_be_stables(bad, counted, _stables(evidence)):
        return None
    return f"{bad} of {counted} canary requests ended in 5xx within {options.guard_window_s:g} s"


def _may_be_stables(bad: int, counted: int, stable: Counts | None) -> bool:
    """Say whether so many failures may be chance where errors are as frequent as stable's; a run of errors is one."""
    if stable is None:
        return False
    runs = stable.error_runs.runs if stable.error_runs is not None else 0
    run = stable.errors / runs if runs else 1.0
    failed = int(bad / run)
    share = (stable.errors + 0.5) / (stable.requests + 1)
    of = max(failed, math.ceil(counted / run))
    return 1 - at_most(failed - 1, of, share) > BURST_CHANCE


def _failed(recent: Finished) -> tuple[int, int]:
    """Return how many ended in 5xx, and of how many that an engine answered or failed to.

    Of one session among others' two failures count at most: what a user asks for may break any engine.
    """
    counted = [record for record, outcome in recent if outcome in ANSWERED or outcome is Outcome.FAILED]
    failed = Counter(cluster_of(record) for record in counted if record.status >= 500)
    alone = failed.pop(None, 0)
    others = {cluster_of(record) for record in counted} - failed.keys()
    if len(failed) > 1 or others:
        surplus = sum(max(0, each - MOST_CUT) for each in failed.values())
        return alone + failed.total() - surplus, len(counted) - surplus
    return alone + failed.total(), len(counted)


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
    mine, theirs = [_told(arm, now, window_s) for arm in arms], _told(beside, now, window_s)
    for rail, said, odd in _ODD:
        there = _known(theirs, odd)
        for told in mine:  # what we sent is no reason to overlook what users got
            yield rail, _odder(said, _known(told, odd), there, options.guard_odd_ratio)


class _Told(NamedTuple):
    """An arm's answers within the window, and its newest ones, however long ago they came."""

    lately: Sequence[GatewayRecord]
    newest: Sequence[GatewayRecord]


def _told(arm: Arm, now: datetime, window_s: float) -> _Told:
    lately = _of_many([record for record, outcome in arm.lately(now, window_s) if outcome in ANSWERED])
    return _Told(lately, _of_many(sorted(arm.newest(), key=finished_at))[-ODD_MIN_ANSWERS:])


def _of_many(records: Sequence[GatewayRecord]) -> Sequence[GatewayRecord]:
    """Return them without what one session has more than others: of each the last ones."""
    kept, seen = [], Counter[str]()
    for record in reversed(records):
        if (session := cluster_of(record)) is not None:
            seen[session] += 1
        if session is None or seen[session] <= ODD_OF_A_SESSION:
            kept.append(record)
    return kept[::-1]


def _known(told: _Told, odd: Odd) -> Sequence[bool]:
    """Return which answers of the window are odd; where few came, of the newest ones.

    A canary that gets three requests a minute would never have ten in a minute, and never be looked at.
    """
    lately, newest = ([known for each in part if (known := odd(each)) is not None] for part in told)
    return lately if len(lately) >= ODD_MIN_ANSWERS else newest


def _odder(said: str, here: Sequence[bool], there: Sequence[bool], limit: float) -> str | None:
    """Compare the shares among answers of which it is known; too few on either side say nothing."""
    if min(len(here), len(there)) < ODD_MIN_ANSWERS or sum(here) / len(here) - sum(there) / len(there) < limit:
        return None
    return f"{sum(here)} of {len(here)} canary answers {said}, {sum(there)} of {len(there)} of stable's"


def _endless(record: GatewayRecord) -> bool | None:
    """Replayed ones are told to go on."""
    return None if record.stop is None or record.replayed else record.stop == "length"


def _over_at_once(record: GatewayRecord) -> bool | None:
    if record.stop is None or record.output_tokens is None:
        return None
    return record.stop == "stop" and record.output_tokens <= 1


def _silent(record: GatewayRecord) -> bool | None:
    return record.ttft_ms is None if record.stream else None


_ODD: tuple[tuple[str, str, Odd], ...] = (
    ("endless_answers", "run on until their limit", _endless),  # a model that repeats itself never stops
    ("degenerate_answers", "are over after a token", _over_at_once),
    ("empty_answers", "are streams without a token", _silent),
    ("wrong_model", "name another model than was asked for", lambda record: record.other_model),
)


def _empty(recent: Finished, others: Finished, options: RolloutOptions) -> str | None:
    """Streams that ended well without a single token, and more of them than of stable's at the same time."""
    empty, streams = _without_token(recent)
    if streams < BURST_MIN_REQUESTS or empty < options.guard_empty_ratio * streams:
        return None
    theirs, of = _without_token(others)
    if of and empty / streams <= _WORSE * theirs / of:
        return None
    return f"{empty} of {streams} canary streams ended without a token within {options.guard_window_s:g} s"


def _without_token(finished: Finished) -> tuple[int, int]:
    streams = [(record, outcome) for record, outcome in finished if record.stream and outcome not in REFUSED]
    return sum(outcome in ANSWERED and record.ttft_ms is None for record, outcome in streams), len(streams)
