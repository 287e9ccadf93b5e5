"""The judge: is the canary worse than the stable control by more than the declared margin? Pure.

Three ratios are compared, latency-limit misses, errors and refusals (4xx: a canary with a shorter context refuses what
stable accepts), each as canary − control with bounds that hold at every look and however misses follow each other
(`bursts`), so judging twice a second until something is certain keeps the declared error rates. Requests we sent
ourselves to prove the canary's load are compared with the same control, apart from users':

- ERROR when the split of the traffic is certainly not the step's weight: then the arms are not comparable,
- FAIL when one of them is certainly above its margin (lower bound > margin),
- PASS when each ratio is certainly not (upper bound ≤ margin), by users' requests or by replayed ones, the others not
  certainly worse and estimated beyond it, the declared load was reached, and the step has its samples and its time,
- latencies with a declared margin are held to it the same way while stable serves beside the canary (`effects`),
- INCONCLUSIVE too where live traffic contradicts what the canary's study promised (`promise`), or where users leave or
  miss in a way that no comparison counts (`doubts`),
- INCONCLUSIVE otherwise.

The margin is what the user declared to accept, so a difference inside it never fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.rollouts.analysis import Analysis, Comparison, LoadProof, Shown, Verdict
from controlplane.domain.rollouts.comparing import BESIDE, Control, Evidence, compare, split_problem
from controlplane.domain.rollouts.counting import NOTHING
from controlplane.domain.rollouts.doubts import doubt
from controlplane.domain.rollouts.effects import describe_effect
from controlplane.domain.rollouts.promise import shown
from controlplane.domain.rollouts.recording import describe_source
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.rollouts.strata import describe_strata
from controlplane.domain.slo import SloSet


def judge(
    evidence: Evidence, slos: SloSet, options: RolloutOptions, step: StepSpec, *, started_at: datetime, now: datetime
) -> Analysis:
    """Judge one step on what it has counted so far; `started_at` is the step's, wall-clock."""
    comparisons = compare(evidence, slos, options)
    elapsed_s = (now - started_at).total_seconds()
    seen = None if evidence.promise is None else shown(evidence.promise, evidence, slos, options)
    said = _verdict(comparisons, evidence, options, step, elapsed_s)
    verdict, reason = _held_to_promise(said, seen)
    against = doubt(evidence, options)
    if verdict is Verdict.PASS and against is not None:
        verdict, reason = Verdict.INCONCLUSIVE, f"no comparison says so, but {against}"
    return Analysis(
        verdict=verdict,
        reason=f"{reason} [{_against(evidence.control)}{_by_strata(evidence, options)}]",
        at=now,
        canary=evidence.canary,
        stable=evidence.stable,
        replayed=evidence.replayed,
        load=evidence.load,
        shown=seen,
        comparisons=comparisons,
        strata=evidence.strata,
        effects=evidence.effects,
        doubt=against,
    )


def could_not_measure(reason: str, now: datetime, last: Analysis | None) -> Analysis:
    """Return the ERROR verdict, with what had been counted before."""
    if last is None:
        return Analysis(verdict=Verdict.ERROR, reason=reason, at=now, canary=NOTHING)
    return last.evolve(verdict=Verdict.ERROR, reason=reason, at=now, guard=None)


def still_reading(now: datetime, last: Analysis | None) -> Analysis:
    """Return that nothing is said before all of the step's records were read, with what was said last."""
    reason = "the records of this step are still being read"
    if last is None:
        return Analysis(verdict=Verdict.INCONCLUSIVE, reason=reason, at=now, canary=NOTHING)
    return last.evolve(verdict=Verdict.INCONCLUSIVE, reason=reason, at=now, guard=None)


def _verdict(
    comparisons: Sequence[Comparison], evidence: Evidence, options: RolloutOptions, step: StepSpec, elapsed_s: float
) -> tuple[Verdict, str]:
    problem = split_problem(evidence)
    if problem is not None:
        return Verdict.ERROR, problem
    worse = [_describe(c) for c in comparisons if c.certainly_worse]
    worse += [describe_effect(each) for each in evidence.effects if each.certainly_worse]
    if worse:
        return Verdict.FAIL, f"certainly worse: {worse[0]}"
    waits = _too_early(evidence, step, elapsed_s) or _undecided(comparisons) or _maybe_slower(evidence, options)
    if waits is None and options.match_load and elapsed_s < step.max_s:
        waits = _unproven(evidence)
    if waits is not None:
        return Verdict.INCONCLUSIVE, waits
    misses = [c for c in comparisons if c.name == comparisons[0].name]
    return Verdict.PASS, f"certainly within the margins after {_samples(evidence)}: {_describe(_surest(misses))}"


def _held_to_promise(said: tuple[Verdict, str], seen: Shown | None) -> tuple[Verdict, str]:
    """What is no worse than stable, yet not what was promised, waits for a person."""
    if said[0] is not Verdict.PASS or seen is None or seen.contradiction is None:
        return said
    return Verdict.INCONCLUSIVE, f"no worse than stable, but not what was promised: {seen.contradiction}"


def _too_early(evidence: Evidence, step: StepSpec, elapsed_s: float) -> str | None:
    samples = evidence.canary.requests + (evidence.replayed.requests if evidence.replayed else 0)
    if samples < step.min_samples:
        said = f"{samples} of at least {step.min_samples} canary requests"
        return f"{said}: {evidence.load.note}" if evidence.load is not None and evidence.load.note else said
    if elapsed_s < step.least_s:
        return f"{elapsed_s:.0f} s of at least {step.least_s:g} s"
    if evidence.canary_flights.overdue:
        return f"{evidence.canary_flights.overdue} canary requests in flight beyond a limit"
    return None


def _undecided(comparisons: Sequence[Comparison]) -> str | None:
    """Name the first ratio that neither users' nor replayed requests decide, or on which they contradict each other."""
    for name in dict.fromkeys(c.name for c in comparisons):
        alike = [c for c in comparisons if c.name == name]
        if all(c.high > c.margin for c in alike):
            return f"not certain yet: {_describe(_surest(alike))}"
        if opposed := [c for c in alike if c.low > 0 and c.difference > c.margin]:
            return f"users' and replayed requests contradict each other: {_describe(opposed[0])}"
    return None


def _maybe_slower(evidence: Evidence, options: RolloutOptions) -> str | None:
    """Name the first latency that neither users' requests nor replayed ones show to be within its margin."""
    if evidence.control not in BESIDE:
        return None
    for margin in options.latency_margins:
        declared = (margin.metric, margin.percentile)
        alike = [each for each in evidence.effects if (each.metric, each.percentile) == declared]
        if not any(each.certainly_within for each in alike):
            return f"not certain yet: {describe_effect(alike[0])}" if alike else f"nothing told of {margin}"
    return None


def _surest(alike: Sequence[Comparison]) -> Comparison:
    """Return that of users' requests or that of replayed ones, whichever decides."""
    return min(alike, key=lambda c: c.high)


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
        said += f" {describe_source(load.source)}" if load.source else ""
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


def _by_strata(evidence: Evidence, options: RolloutOptions) -> str:
    if options.match_load or evidence.strata is None:
        return ""
    return f"; misses matched by strata: {describe_strata(evidence.strata)}"


def _against(control: Control) -> str:
    match control:
        case Control.CONCURRENT:
            return "against stable in the same step"
        case Control.REPLICA:
            return "against a stable replica as old as the canary's, in the same step"
        case Control.EARLIER_STEPS:
            return "against stable in the earlier steps, as none serves beside this one"
        case Control.LIMITS:
            return "against the promised limits: no stable requests"
