"""The judge: is the canary worse than the stable control by more than the declared margin? Pure.

Three ratios are compared, latency-limit misses, errors and refusals (4xx: a canary with a shorter context refuses what
stable accepts), each as canary − control with bounds that hold at every look and however misses follow each other
(`bursts`), so judging twice a second until something is certain keeps the declared error rates. Requests we sent
ourselves to prove the canary's load are compared with the same control, apart from users':

- FAIL when one of them is certainly above its margin (lower bound > margin),
- PASS when each ratio is certainly not (upper bound ≤ margin), by users' requests or by replayed ones, the declared
  load was reached, and the step has its samples and its time,
- ERROR when the split of the traffic is certainly not the step's weight: then the arms are not comparable,
- INCONCLUSIVE otherwise.

The margin is what the user declared to accept, so a difference inside it never fails. The declared error rates are the
whole rollout's. Any step and any comparison may abort, so that rate is divided by both (Bonferroni). A pass needs every
ratio at every step, so each may use the whole rate (intersection-union test, Berger 1982); halved where users' and
replayed requests each may decide. The upper bound is the canary's at 0.8 of it less the control's at 0.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from controlplane.domain.analysis import Analysis, Comparison, Counts, LoadProof, Verdict
from controlplane.domain.anytime import miss_ratio_bounds
from controlplane.domain.base import Value
from controlplane.domain.bursts import Runs, Series, expected_end, least, most, series
from controlplane.domain.service import RolloutOptions, StepSpec
from controlplane.domain.slo import SloSet

_CANARY_SHARE = 0.8  # of alpha: the canary has fewer requests, so its bound is the wider one
SPLIT_ALPHA = 0.001
"""How often a step is held although its traffic is split as asked, at most."""


class Control(StrEnum):
    """What the canary is compared with."""

    CONCURRENT = "concurrent"  # stable requests that arrived in the same step
    EARLIER_STEPS = "earlier_steps"  # at 100 % stable gets nothing: what it did in the earlier steps, another hour
    LIMITS = "limits"  # no stable request at all: the promised limits themselves


class Flights(Value):
    """Requests of one arm that have not finished: how many, and of these how many for longer than a limit allows."""

    in_flight: int = 0
    overdue: int = 0


class Evidence(Value):
    """What a step is judged on."""

    canary: Counts
    stable: Counts | None
    control: Control
    replayed: Counts | None = None
    load: LoadProof | None = None
    weight_percent: int | None = None  # what the split is held to; None where it says nothing
    canary_flights: Flights = Flights()
    stable_flights: Flights = Flights()


class _Ratio(NamedTuple):
    """One kind of hit to compare, and what is promised where there is no stable request."""

    name: str
    canary: Series
    stable: Series | None
    limit: float
    margin: float
    replayed: bool = False


class _Alphas(NamedTuple):
    """What one bound may be wrong with, to fail and to pass."""

    fail: float
    passing: float


def add(counts: Iterable[Counts]) -> Counts:
    """Pool several counts into one; runs are pooled where every part knows them."""
    each = list(counts)
    plain = {name: sum(getattr(c, name) for c in each) for name in _PLAIN}
    return Counts(**plain, **{name: _pooled([getattr(c, name) for c in each]) for name in _RUNS})


_RUNS = ("miss_runs", "error_runs", "refusal_runs")
_PLAIN = tuple(name for name in Counts.model_fields if name not in _RUNS)


def _pooled(parts: Sequence[Runs | None]) -> Runs | None:
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return Runs(runs=sum(part.runs for part in known), open=sum(part.open for part in known))


def judge(
    evidence: Evidence, slos: SloSet, options: RolloutOptions, step: StepSpec, *, started_at: datetime, now: datetime
) -> Analysis:
    """Judge one step on what it has counted so far; `started_at` is the step's, wall-clock."""
    comparisons = compare(evidence, slos, options)
    elapsed_s = (now - started_at).total_seconds()
    verdict, reason = _verdict(comparisons, evidence, step, elapsed_s, waits_for_load=options.match_load)
    return Analysis(
        verdict=verdict,
        reason=f"{reason} [{_against(evidence.control)}]",
        at=now,
        canary=evidence.canary,
        stable=evidence.stable,
        replayed=evidence.replayed,
        load=evidence.load,
        comparisons=comparisons,
    )


def could_not_measure(reason: str, now: datetime, last: Analysis | None) -> Analysis:
    """Return the ERROR verdict, with what had been counted before."""
    if last is None:
        return Analysis(verdict=Verdict.ERROR, reason=reason, at=now, canary=NOTHING)
    return last.evolve(verdict=Verdict.ERROR, reason=reason, at=now, guard=None)


NOTHING = Counts(requests=0, slo_misses=0, errors=0)


def compare(evidence: Evidence, slos: SloSet, options: RolloutOptions) -> tuple[Comparison, ...]:
    """Return canary minus control for misses, errors and refusals, users' and replayed, each with its bounds.

    Without a stable request there is nothing to compare refusals with: nothing is promised about what clients ask.
    """
    stable = evidence.stable
    waits = None if stable is None else evidence.stable_flights
    ratios = [*_ratios(evidence.canary, stable, slos, options, evidence.canary_flights, waits)]
    if evidence.replayed is not None and evidence.replayed.requests + evidence.replayed.refused:
        again = _ratios(evidence.replayed, stable, slos, options, Flights(), waits)
        ratios += [each._replace(replayed=True) for each in again]
    parts = 2 if evidence.replayed is not None else 1
    alphas = _Alphas(options.false_abort_per_step / (3 * parts), options.false_promotion / parts)
    return tuple(_comparison(ratio, alphas, options.miss_run) for ratio in ratios)


def split_problem(evidence: Evidence) -> str | None:
    """Say why the traffic is certainly not split by the step's weight; None while it may be.

    Counted are arrivals, of a session only the first, and what is still in flight.
    """
    if evidence.weight_percent is None or evidence.stable is None:
        return None
    mine = evidence.canary.asked + evidence.canary_flights.in_flight
    total = mine + evidence.stable.asked + evidence.stable_flights.in_flight
    low, high = miss_ratio_bounds(mine, total, SPLIT_ALPHA)
    if low <= evidence.weight_percent / 100 <= high:
        return None
    got = f"{mine} of {total} arrivals, {100 * mine / total:.1f} %"
    return f"the canary got {got} where its weight is {evidence.weight_percent} %: the arms cannot be compared"


def _ratios(
    canary: Counts,
    stable: Counts | None,
    slos: SloSet,
    options: RolloutOptions,
    flights: Flights,
    stable_flights: Flights | None,
) -> Iterable[_Ratio]:
    allowed = min(1.0, sum(slo.allowed_miss_ratio for slo in slos.latency))
    against = None if stable is None else _misses(stable, stable_flights or Flights())
    yield _Ratio("slo_miss_ratio", _misses(canary, flights), against, allowed, options.miss_ratio_margin)
    errors = None if stable is None else series(stable.requests, stable.errors, stable.error_runs)
    mine = series(canary.requests, canary.errors, canary.error_runs)
    yield _Ratio("error_ratio", mine, errors, slos.max_error_ratio, options.error_ratio_margin)
    if stable is not None:
        margin = options.refusal_ratio_margin or max(options.miss_ratio_margin, options.error_ratio_margin)
        yield _Ratio("refusal_ratio", _refusals(canary), _refusals(stable), 0.0, margin)


def _misses(counts: Counts, flights: Flights) -> Series:
    """What is in flight beyond a limit has missed it; it ends no run that is open."""
    seen = series(counts.requests - counts.untold, counts.slo_misses, counts.miss_runs)
    late = flights.overdue
    if not late:
        return seen
    begun = 0 if seen.open else 1
    return Series(seen.n + late, seen.hits + late, seen.runs + begun, seen.open + begun)


def _refusals(counts: Counts) -> Series:
    return series(counts.requests + counts.refused, counts.refused, counts.refusal_runs)


def _comparison(ratio: _Ratio, alphas: _Alphas, miss_run: float) -> Comparison:
    reference = ratio.limit if ratio.stable is None else ratio.stable.ratio
    low, high = _bounds(ratio, alphas, miss_run)
    return Comparison(
        name=ratio.name,
        replayed=ratio.replayed,
        canary_ratio=ratio.canary.ratio,
        stable_ratio=None if ratio.stable is None else reference,
        difference=ratio.canary.ratio - reference,
        low=low,
        high=high,
        margin=ratio.margin,
    )


def _bounds(ratio: _Ratio, alphas: _Alphas, miss_run: float) -> tuple[float, float]:
    """Return what the difference is at least (to fail) and at most (to pass), each at its own confidence.

    A canary equal to stable has runs as stable has them, so these are what the canary's are held to.
    """
    end = expected_end(ratio.stable, miss_run)
    mine, others = _CANARY_SHARE, 1 - _CANARY_SHARE
    if ratio.stable is None:
        low = least(ratio.canary, alphas.fail, least_end=end)
        return low - ratio.limit, most(ratio.canary, alphas.passing, least_end=end) - ratio.limit
    low = least(ratio.canary, mine * alphas.fail, least_end=end)
    low -= most(ratio.stable, others * alphas.fail, least_end=end)
    high = most(ratio.canary, mine * alphas.passing, least_end=end)
    return low, high - least(ratio.stable, others * alphas.passing, least_end=end)


def _verdict(
    comparisons: Sequence[Comparison], evidence: Evidence, step: StepSpec, elapsed_s: float, *, waits_for_load: bool
) -> tuple[Verdict, str]:
    worse = [c for c in comparisons if c.low > c.margin]
    if worse:
        return Verdict.FAIL, f"certainly worse: {_describe(worse[0])}"
    problem = split_problem(evidence)
    if problem is not None:
        return Verdict.ERROR, problem
    waits = _too_early(evidence, step, elapsed_s) or _undecided(comparisons)
    if waits is None and waits_for_load and elapsed_s < step.max_s:
        waits = _unproven(evidence)
    if waits is not None:
        return Verdict.INCONCLUSIVE, waits
    return Verdict.PASS, f"certainly within the margins after {_samples(evidence)}: {_describe(comparisons[0])}"


def _too_early(evidence: Evidence, step: StepSpec, elapsed_s: float) -> str | None:
    samples = evidence.canary.requests + (evidence.replayed.requests if evidence.replayed else 0)
    if samples < step.min_samples:
        return f"{samples} of at least {step.min_samples} canary requests"
    if elapsed_s < step.min_s:
        return f"{elapsed_s:.0f} s of at least {step.min_s:g} s"
    if evidence.canary_flights.overdue:
        return f"{evidence.canary_flights.overdue} canary requests in flight beyond a limit"
    return None


def _undecided(comparisons: Sequence[Comparison]) -> str | None:
    """A ratio is decided by users' requests or by replayed ones; the first that neither decides."""
    for name in dict.fromkeys(c.name for c in comparisons):
        alike = [c for c in comparisons if c.name == name]
        if all(c.high > c.margin for c in alike):
            return f"not certain yet: {_describe(min(alike, key=lambda c: c.high))}"
    return None


def _unproven(evidence: Evidence) -> str | None:
    """While requests are still sent to reach the load the step waits for it; `rollout_policy` acts on the end of it."""
    if evidence.load is None or evidence.load.proven:
        return None
    return f"load not proven: {describe_load(evidence.load)}"


def describe_load(load: LoadProof) -> str:
    """Return how far the load a canary replica carried is from what it is to carry."""
    said = f"{load.reached_rps:.2f} of {load.wanted_rps:.2f} requests/s a replica"
    if load.replayed_share:
        said += f", {100 * load.replayed_share:.0f} % of them replayed"
    return f"{said}; {load.note}" if load.note else said


def _samples(evidence: Evidence) -> str:
    users = f"{evidence.canary.requests} requests"
    if evidence.replayed is not None and evidence.replayed.requests:
        users += f" of users and {evidence.replayed.requests} replayed"
    return users if evidence.load is None else f"{users} ({describe_load(evidence.load)})"


_SAID = {"slo_miss_ratio": "SLO misses", "error_ratio": "errors", "refusal_ratio": "refusals"}


def _describe(c: Comparison) -> str:
    points = f"{100 * c.difference:+.1f} in [{100 * c.low:+.1f}, {100 * c.high:+.1f}]"
    of = "replayed " if c.replayed else ""
    return f"{of}{_SAID[c.name]} {points} percentage points, margin {100 * c.margin:g}"


def _against(control: Control) -> str:
    match control:
        case Control.CONCURRENT:
            return "against stable in the same step"
        case Control.EARLIER_STEPS:
            return "against stable in the earlier steps, as none serves beside this one"
        case Control.LIMITS:
            return "against the promised limits: no stable requests"
