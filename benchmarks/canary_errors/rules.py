"""Rules that decide a step, on many rollouts at once: ours, ours of before, Kayenta's, Flagger's and Argo Rollouts'.

Each gets the same requests. `before` judged a canary by its share of the traffic alone, took misses for independent,
looked at finished requests only and declared its error rates a step. Kayenta compares the arms' per-minute values with
a Mann-Whitney U test at the end of the step and calls a metric worse when p < 0.01 in its direction (`mannwhitney`,
tolerance 0.25); Flagger checks the canary's share of good requests every minute against a fixed threshold and rolls
back at the fifth failure; Argo measures every minute and fails at more than two failures. The fixed thresholds are
stable's true share plus the margin: better informed than anybody who has to guess it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu

from benchmarks.canary_errors.bounds import Array, Bools, Difference, Many, as_seldom, expected_end
from benchmarks.canary_errors.independent import beyond_margin
from benchmarks.canary_errors.traffic import BASE, MINUTES, TIMES, Step
from controlplane.domain.rollouts.analysis import Counts, LoadProof, Verdict
from controlplane.domain.rollouts.comparing import Control, Evidence, Flights
from controlplane.domain.rollouts.guards import guard
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet

OPTIONS = RolloutOptions()
SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500),), target_qps=1)
_MARGIN = OPTIONS.miss_ratio_margin
_START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = len(TIMES)


class Decided(NamedTuple):
    """What a rule said of a step of each rollout, and at which moment; not `known`: it never said anything."""

    passed: Bools
    known: Bools
    at: Array  # index of the moment; the last one where nothing was known
    misses_at: Array | None = None  # the moment at which misses alone were certain; NEVER where they never were


Rule = Callable[[Step, Sequence[Step]], Decided]


def ours(step: Step, earlier: Sequence[Step]) -> Decided:
    """The judge as the controller asks it, guard rails included.

    What does not depend on which requests missed (errors, refusals, samples, guards) is asked of the judge itself.
    """
    stable = _stable(step, earlier)
    plain = [_asked(_plain(step, stable, moment)) for moment in range(len(TIMES))]
    aborts, allows = (np.array([found is said for found in plain]) for said in (Verdict.FAIL, Verdict.PASS))
    mine, others, known = _as_users(step, earlier, stable)
    users = [(_with_flights(mine, step.hanging), others, known)] if step.weight else []
    parts = [*users, *([(step.replayed, stable, step.before)] if step.replayed else [])]
    found = [_compared(*part, parts=len(parts)) for part in parts]
    worse, within = (np.any(each, axis=0) for each in zip(*found, strict=True))
    fails = worse | aborts[None, :]
    certain = np.asarray(fails | within)
    misses_at = np.where(certain.any(axis=1), certain.argmax(axis=1), NEVER)
    return _first(fails, within & allows[None, :])._replace(misses_at=misses_at)


def before(step: Step, earlier: Sequence[Step]) -> Decided:
    users, stable = step.users_alone, _stable(step, earlier)
    enough = (users.n >= 50) & (TIMES >= 10)
    alpha = 1 - OPTIONS.confidence
    fails = beyond_margin(users, stable, _MARGIN, alpha / 3, above=True)
    passes = beyond_margin(users, stable, _MARGIN, alpha, above=False) & enough
    return _first(fails, passes)


def kayenta(step: Step, earlier: Sequence[Step]) -> Decided:
    latest = next(each.stable for each in [step, *reversed(earlier)] if each.stable is not None)
    mine, others = _minutes(step.users_alone), _minutes(latest)
    worse = mannwhitneyu(mine, others, alternative="greater", axis=1, method="asymptotic").pvalue < 0.01
    return _at_end(np.asarray(~(worse & (mine.mean(axis=1) > 1.25 * others.mean(axis=1)))))


def flagger(step: Step, earlier: Sequence[Step]) -> Decided:
    return _fixed(step, failures=5)


def argo(step: Step, earlier: Sequence[Step]) -> Decided:
    return _fixed(step, failures=3)


RULES: dict[str, Rule] = {"ours": ours, "before": before, "kayenta": kayenta, "flagger": flagger, "argo": argo}


def _compared(part: Many, stable: Many, earlier: Many, *, parts: int) -> tuple[Bools, Bools]:
    """As `comparing._bounds` for misses: certainly worse, certainly within the margin."""
    equal, within = OPTIONS.false_abort_per_step / (3 * parts), OPTIONS.false_promotion / parts
    to_fail, to_pass = (expected_end([stable, earlier], run) for run in (OPTIONS.longest_run, OPTIONS.miss_run))
    others = as_seldom(stable, to_pass)
    failing = Difference(part, stable, (to_fail, others), earlier)
    passing = Difference(part, stable, (as_seldom(part, to_pass), others), earlier)
    worse = failing.above(_MARGIN, 1 - OPTIONS.confidence) & failing.above(0.0, equal)
    unexplained = ~failing.explained(equal) & (part.hits > _MARGIN * part.n)
    return worse | unexplained, passing.below(_MARGIN, within)


class _Plain(NamedTuple):
    """What of a look does not depend on which requests missed: the same in every rollout."""

    weight: int
    at_s: float
    users: int
    stable: int
    replayed: int | None
    before: int
    hanging: int
    replays_hanging: int
    collapses: int
    falls: bool


def _plain(step: Step, stable: Many, moment: int) -> _Plain:
    def n(part: Many) -> int:
        return int(part.n[0, min(moment, part.n.shape[1] - 1)])

    return _Plain(
        weight=step.weight,
        at_s=float(TIMES[moment]),
        users=n(step.users),
        stable=n(stable),
        replayed=None if step.replayed is None else n(step.replayed),
        before=n(step.before),
        hanging=int(step.hanging[moment]),
        replays_hanging=int(step.replays_hanging[moment]),
        collapses=int(step.collapses[moment]),
        falls=bool(step.collapses.any()),
    )


@functools.lru_cache(maxsize=1024)
def _asked(look: _Plain) -> Verdict:
    """Ask guard rails and judge about a canary and a stable without a miss."""
    now = _START + timedelta(seconds=look.at_s)
    proof = LoadProof(
        wanted_rps=1,
        reached_rps=0 if look.falls else 1,
        proven=not look.falls,
        collapses=look.collapses,
        hanging=look.replays_hanging,
    )
    evidence = Evidence(
        canary=_without_misses(look.users),
        stable=_without_misses(look.stable),
        users=look.weight > 0,
        control=Control.CONCURRENT if look.weight < 100 else Control.EARLIER_STEPS,
        replayed=None if look.replayed is None else _without_misses(look.replayed),
        before=_without_misses(look.before),
        load=proof if look.weight < 100 else None,
        canary_flights=Flights(in_flight=look.hanging, overdue=look.hanging, hanging=look.hanging),
    )
    spec = StepSpec(weight_percent=look.weight)
    hit = guard([], evidence, OPTIONS, now)
    return (hit or judge(evidence, SLOS, OPTIONS, spec, started_at=_START, now=now)).verdict


def _without_misses(requests: int) -> Counts:
    return Counts(requests=requests, slo_misses=0, errors=0)


def _with_flights(users: Many, hanging: Array) -> Many:
    """As `comparing._misses`: what is in flight beyond a limit has missed it."""
    late = hanging[None, :]
    begun = np.where((late > 0) & (users.open == 0), 1.0, 0.0)
    return Many(users.n + late, users.hits + late, users.runs + begun, users.open + begun)


def _as_users(step: Step, earlier: Sequence[Step], stable: Many) -> tuple[Many, Many, Many]:
    """Return what users' requests are compared by, as `comparing._miss_ratio`: by session, where that is known."""
    if step.by_session is None:
        return step.users, stable, step.before
    past = [each.by_session.stable for each in earlier if each.by_session]
    return step.by_session.users, step.by_session.stable or _pooled(past), step.by_session.before


def _stable(step: Step, earlier: Sequence[Step]) -> Many:
    """At 100 %: what stable did in all the earlier steps."""
    return step.stable or _pooled([each.stable for each in earlier])


def _pooled(steps: Sequence[Many | None]) -> Many:
    past = [each for each in steps if each is not None]
    ends = [[np.broadcast_to(field, part.hits.shape)[:, -1:] for field in part] for part in past]
    return Many(*(sum(fields[1:], fields[0]) for fields in zip(*ends, strict=True)))


def _first(fails: Bools, passes: Bools) -> Decided:
    """The first moment decides; where both hold, the failure does."""
    either = fails | passes
    known = np.asarray(either.any(axis=1))
    at = np.where(known, either.argmax(axis=1), NEVER - 1)
    failed = fails[np.arange(len(fails)), at]
    return Decided(known & ~failed, known, at)


def _at_end(passed: Bools) -> Decided:
    return Decided(passed, np.ones_like(passed), np.full(len(passed), NEVER - 1))


def _minutes(part: Many) -> Array:
    """Return the share of misses minute by minute."""
    n, hits = (np.broadcast_to(field, part.hits.shape) for field in (part.n, part.hits))
    requests, misses = (np.diff(each[:, MINUTES], axis=1, prepend=0) for each in (n, hits))
    return np.asarray(misses / np.maximum(1, requests))


def _fixed(step: Step, *, failures: int) -> Decided:
    failed = np.cumsum(_minutes(step.users_alone) > BASE + _MARGIN, axis=1) >= failures
    known = failed.any(axis=1)
    at = np.where(known, MINUTES[failed.argmax(axis=1)], NEVER - 1)
    return Decided(np.asarray(~known), np.ones_like(known), at)
