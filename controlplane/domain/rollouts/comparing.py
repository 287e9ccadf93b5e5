"""What a step is judged on, and canary minus control with bounds, ratio by ratio. Pure.

The declared error rates are the whole rollout's. Any step and any comparison may abort an equal canary, so that rate is
divided by both (Bonferroni): no ratio counts as worse before equality is excluded at so little. That it is beyond the
margin has to be certain too, at `confidence`, which nothing needs to be divided for: of a canary at its margin an abort
is no error. A pass needs every ratio at every step, so each may use the whole rate (intersection-union test, Berger
1982); halved where users' and replayed requests each may decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from controlplane.domain.base import Value
from controlplane.domain.rollouts.analysis import (
    Comparison,
    Counts,
    LatencyEffect,
    LoadProof,
    Promise,
    Strata,
)
from controlplane.domain.rollouts.anytime import miss_ratio_bounds
from controlplane.domain.rollouts.bursts import Series, expected_end, least, most
from controlplane.domain.rollouts.counting import NOTHING, clusters_of, errors_of, misses_of, refusals_of, whole_of
from controlplane.domain.rollouts.pairs import Difference, Side
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.slo import SloSet

SPLIT_ALPHA = 0.001
"""How often a step is held although its traffic is split as asked, at most."""


class Control(StrEnum):
    """What the canary is compared with."""

    CONCURRENT = "concurrent"  # stable requests that arrived in the same step
    REPLICA = "replica"  # of these, the ones of a stable replica as old as the canary's
    EARLIER_STEPS = "earlier_steps"  # at 100 % stable gets nothing: what it did in the earlier steps, another hour
    LIMITS = "limits"  # no stable request at all: the promised limits themselves


STREAMS_FROM = 0.1
"""Of users' requests: where fewer are streams, first tokens say too little of what users wait for."""

BESIDE = frozenset({Control.CONCURRENT, Control.REPLICA})
"""Stable serves at the same time: only then do latencies say something of the canary alone."""


class Flights(Value):
    """Requests of one arm that have not finished: all, those beyond a limit, those far beyond it."""

    in_flight: int = 0
    overdue: int = 0
    hanging: int = 0


class Evidence(Value):
    """What a step is judged on."""

    canary: Counts
    stable: Counts | None
    control: Control
    users: bool = True  # False: the step sends none to the canary, it is judged by replayed requests alone
    replayed: Counts | None = None
    load: LoadProof | None = None
    carried_rps: float = 0.0  # requests a canary replica finished per second lately, engine time
    promise: Promise | None = None
    before: Counts | None = None  # what stable did before the step: how its hits follow each other
    stable_asked: int | None = None  # arrivals at all of stable, where `stable` is a part of it
    weight_percent: int | None = None  # what the split is held to; None where it says nothing
    canary_flights: Flights = Flights()
    stable_flights: Flights = Flights()
    replayed_flights: Flights = Flights()  # of what we sent: those beyond a limit alone
    strata: Strata | None = None  # users' requests beside like ones of stable's
    effects: tuple[LatencyEffect, ...] = ()  # how much slower it is; none where no stable serves beside it


class _Ratio(NamedTuple):
    """One kind of hit to compare, and what is promised where there is no stable request."""

    name: str
    canary: Series
    stable: Series | None
    before: Series | None  # stable's of an earlier time: how hits follow each other, and what to bet on
    limit: float
    margin: float
    replayed: bool = False
    whole: tuple[Series, Series | None] | None = None  # all of both, where those above are what found a like


class _Alphas(NamedTuple):
    """What one bound may be wrong with: that it is not equal, that it is beyond the margin, that it is within."""

    equal: float
    beyond: float
    within: float


def compare(evidence: Evidence, slos: SloSet, options: RolloutOptions) -> tuple[Comparison, ...]:
    """Return canary minus control for misses, errors and refusals, users' and replayed, each with its bounds.

    Without a stable request there is nothing to compare refusals with: nothing is promised about what clients ask.
    """
    arms = [*_users(evidence), *_replayed(evidence)]
    parts = len(arms)
    beyond = 1 - options.confidence
    alphas = _Alphas(options.false_abort_per_step / (options.compared * parts), beyond, options.false_promotion / parts)
    return tuple(_comparison(ratio, alphas, options) for arm in arms for ratio in _ratios(arm, evidence, slos, options))


def _users(evidence: Evidence) -> Iterator[_Arms]:
    if evidence.users:
        yield _Arms(evidence.canary, evidence.canary_flights)


def _replayed(evidence: Evidence) -> Iterator[_Arms]:
    if evidence.replayed is not None or not evidence.users:
        yield _Arms(evidence.replayed or NOTHING, evidence.replayed_flights, replayed=True)


def split_problem(evidence: Evidence) -> str | None:
    """Say why the traffic is certainly not split by the step's weight; None while it may be.

    Counted are arrivals, of a session only the first. What is still in flight has arrived too, unless it is of a
    session that was counted: a split is wrong that is so with it and without it.
    """
    if evidence.weight_percent is None or evidence.stable is None:
        return None
    mine = evidence.canary.asked
    theirs = evidence.stable.asked if evidence.stable_asked is None else evidence.stable_asked
    flying = evidence.canary_flights.in_flight, evidence.stable_flights.in_flight
    sides = {_side(mine + more, theirs + others, evidence.weight_percent) for more, others in ((0, 0), flying)}
    if len(sides) > 1 or 0 in sides:
        return None
    mine, total = mine + flying[0], mine + theirs + sum(flying)
    got = f"{mine} of {total} arrivals, {100 * mine / total:.1f} %"
    return f"the canary got {got} where its weight is {evidence.weight_percent} %: the arms cannot be compared"


def _side(mine: int, theirs: int, weight_percent: int) -> int:
    """Return 1 where the canary certainly has more than its weight, -1 where less, 0 where neither is certain."""
    low, high = miss_ratio_bounds(mine, mine + theirs, SPLIT_ALPHA)
    return (low > weight_percent / 100) - (high < weight_percent / 100)


def missed_at_least(evidence: Evidence, options: RolloutOptions) -> float:
    """Return the ratio of misses that the canary has for certain, by users' requests or by replayed ones."""
    known = [misses_of(each) for each in (evidence.stable, evidence.before) if each is not None]
    to_fail = expected_end(known, options.longest_run)
    arms = [part for part in (evidence.canary, evidence.replayed) if part is not None]
    alpha = options.false_abort_per_step / len(arms)
    return max(least(misses_of(arm), alpha, least_end=to_fail) for arm in arms)


class _Arms(NamedTuple):
    canary: Counts
    flights: Flights
    replayed: bool = False


def _ratios(mine: _Arms, evidence: Evidence, slos: SloSet, options: RolloutOptions) -> Iterator[_Ratio]:
    stable, before = evidence.stable, evidence.before
    alike = _by_session(mine, evidence, "errors_clustered", "refusals_clustered")
    yield _miss_ratio(mine, evidence, slos, options)
    yield _Ratio(
        name="error_ratio",
        canary=errors_of(mine.canary, by_session=alike),
        stable=None if stable is None else errors_of(stable, by_session=alike),
        before=None if before is None else errors_of(before, by_session=alike),
        limit=slos.max_error_ratio,
        margin=options.error_ratio_margin,
        replayed=mine.replayed,
    )
    if stable is not None:
        yield _Ratio(
            name="refusal_ratio",
            canary=refusals_of(mine.canary, by_session=alike),
            stable=refusals_of(stable, by_session=alike),
            before=None if before is None else refusals_of(before, by_session=alike),
            limit=0.0,
            margin=options.refusal_ratio_margin or max(options.miss_ratio_margin, options.error_ratio_margin),
            replayed=mine.replayed,
        )


def _miss_ratio(mine: _Arms, evidence: Evidence, slos: SloSet, options: RolloutOptions) -> _Ratio:
    stable, before, late = evidence.stable, evidence.before, evidence.stable_flights.overdue
    whole_alone = asks_whole(evidence)
    read = whole_of if whole_alone else clusters_of if _by_session(mine, evidence, "clustered") else misses_of
    like = None if options.match_load or mine.replayed or whole_alone else evidence.strata
    whole = read(mine.canary, mine.flights.overdue), None if stable is None else read(stable, late)
    canary, beside = whole
    if like is not None:
        canary, beside = misses_of(like.canary, mine.flights.overdue), misses_of(like.stable, late)
    return _Ratio(
        name="slo_miss_ratio",
        canary=canary,
        stable=beside,
        before=None if before is None else read(before),
        limit=min(1.0, sum(slo.allowed_miss_ratio for slo in slos.latency)),
        margin=options.miss_ratio_margin,
        replayed=mine.replayed,
        whole=None if like is None else whole,
    )


def asks_whole(evidence: Evidence) -> bool:
    """Say whether users hardly ask for streams: then everybody, what we send too, is held to limits on the end."""
    compared = [each for each in (evidence.canary, evidence.stable, evidence.before) if each is not None]
    known = [each for each in (*compared, evidence.replayed) if each is not None]
    requests, streamed = (sum(part) for part in zip(*((c.requests, c.streamed) for c in compared), strict=True))
    return all(each.whole is not None for each in known) and requests > 0 and streamed < STREAMS_FROM * requests


def _by_session(mine: _Arms, evidence: Evidence, *names: str) -> bool:
    """Users are compared session by session, where that is known of all who are. What we send has no session."""
    compared = [each for each in (mine.canary, evidence.stable, evidence.before) if each is not None]
    return not mine.replayed and all(getattr(each, name) is not None for each in compared for name in names)


def _comparison(ratio: _Ratio, alphas: _Alphas, options: RolloutOptions) -> Comparison:
    reference = ratio.limit if ratio.stable is None else ratio.stable.ratio
    found = _found(ratio, alphas, options)
    return Comparison(
        name=ratio.name,
        replayed=ratio.replayed,
        canary_ratio=ratio.canary.ratio,
        stable_ratio=None if ratio.stable is None else reference,
        difference=ratio.canary.ratio - reference,
        low=found.low,
        high=found.high,
        margin=ratio.margin,
        equal=found.equal,
    )


class _Bounds(NamedTuple):
    low: float
    high: float
    equal: bool  # the canary may still equal stable


def _found(ratio: _Ratio, alphas: _Alphas, options: RolloutOptions) -> _Bounds:
    """Return what is known of a ratio. A canary may fail by all of its requests or by those that found a like.

    A slow one is busier for being slow and finds none. It passes by those with a like alone.
    """
    if ratio.whole is None:
        return _bounds(ratio, alphas, options)
    half = alphas._replace(equal=alphas.equal / 2, beyond=alphas.beyond / 2)
    canary, stable = ratio.whole
    like, whole = (_bounds(each, half, options) for each in (ratio, ratio._replace(canary=canary, stable=stable)))
    low = max(like.low, whole.low)
    return _Bounds(low, max(low, like.high), equal=like.equal and whole.equal)


def _bounds(ratio: _Ratio, alphas: _Alphas, options: RolloutOptions) -> _Bounds:
    """Return what the difference is at least (to fail) and at most (to pass), each at its own confidence.

    A canary equal to stable has runs as stable has them, so these are what the canary's are held to.
    """
    known = [each for each in (ratio.stable, ratio.before) if each is not None]
    to_fail, to_pass = (expected_end(known, run) for run in (options.longest_run, options.miss_run))
    if ratio.stable is None:
        return _beside_limit(ratio, alphas, to_fail, to_pass)
    return _beside_stable(ratio.canary, ratio.stable, ratio.before, alphas, to_fail, to_pass)


@lru_cache(maxsize=256)  # errors and refusals often have the same counts, and between two passes often nothing came
def _beside_stable(
    canary: Series, stable: Series, before: Series | None, alphas: _Alphas, to_fail: float, to_pass: float
) -> _Bounds:
    others = Side(stable, _as_seldom(stable, to_pass), before)
    failing = Difference(Side(canary, to_fail, before), others)
    high = Difference(Side(canary, _as_seldom(canary, to_pass), before), others).high(alphas.within)
    if not failing.explained(alphas.equal):
        low = canary.ratio - most(stable, alphas.equal, least_end=to_pass, expected=before)
        return _Bounds(low, high, equal=low <= 0)
    return _Bounds(failing.low(alphas.beyond), high, equal=not failing.above(0.0, alphas.equal))


def _beside_limit(ratio: _Ratio, alphas: _Alphas, to_fail: float, to_pass: float) -> _Bounds:
    """Where only the promised limit itself is there to compare with, all is certain at the divided rate."""
    low = least(ratio.canary, alphas.equal, least_end=to_fail, expected=ratio.before) - ratio.limit
    high = most(ratio.canary, alphas.within, least_end=to_pass, expected=ratio.before) - ratio.limit
    return _Bounds(low, high, equal=low <= 0)


def _as_seldom(seen: Series, least_end: float) -> float:
    """Runs end with `least_end` at least, or as seldom as these show."""
    return min(least_end, expected_end([seen], 1 / least_end))
