"""The judge: is the canary worse than the stable control by more than the declared margin? Pure.

Three ratios are compared, latency-limit misses, errors and refusals (4xx: a canary with a shorter context refuses what
stable accepts), each as canary − control with bounds that hold at every look (`anytime`), so judging once a second
until something is certain keeps the stated confidence:

- FAIL when one of them is certainly above its margin (lower bound > margin),
- PASS when all are certainly not (upper bound ≤ margin) and the step has its samples and its time,
- INCONCLUSIVE otherwise.

The margin is what the user declared to accept, so a difference inside it never fails. With alpha = 1 − confidence, a
step fails wrongly with probability at most alpha: split over the comparisons (Bonferroni), joint bounds. It
passes wrongly with probability at most alpha without any splitting, because a pass needs all comparisons
(intersection-union test, Berger 1982); its upper bound is the canary's at 0.8 alpha less the control's at 0.2 alpha,
which decides a canary that misses nothing after some 120 requests where the joint bound needs 220 (margin 0.05, 5 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from controlplane.domain.analysis import Analysis, Comparison, Counts, Verdict
from controlplane.domain.anytime import difference_bounds, miss_ratio_bounds
from controlplane.domain.base import Value
from controlplane.domain.routing import GatewayRecord
from controlplane.domain.service import RolloutOptions, StepSpec
from controlplane.domain.slo import SloSet, misses_any

BURST_MIN_REQUESTS = 5
"""Fewer finished requests than this in the guard's window are no burst, whatever their share of 5xx."""


_COMPARISONS = 3
_CANARY_SHARE = 0.8  # of alpha, in the upper bound: the canary has fewer requests, so its bound is the wider one


class Control(StrEnum):
    """What the canary is compared with."""

    CONCURRENT = "concurrent"  # stable requests that arrived in the same step
    EARLIER_STEPS = "earlier_steps"  # at 100 % stable gets nothing: what it did in the earlier steps, another hour
    LIMITS = "limits"  # no stable request at all: the promised limits themselves


class Outcome(NamedTuple):
    """One finished request in engine time: a gateway record with its latencies converted once."""

    finished_at: datetime
    status: int
    ok: bool
    truncated: bool
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None

    @property
    def refused(self) -> bool:
        return 400 <= self.status < 500


class Evidence(Value):
    """What a step is judged on."""

    canary: Counts
    stable: Counts | None
    control: Control


def outcomes(records: Iterable[GatewayRecord], *, time_lapse: float) -> Sequence[Outcome]:
    """Convert records to engine time (× time_lapse, emulated seconds per wall-clock second).

    Left out, as neither good nor bad of the engine: clients that hung up. What the gateway itself refuses (no key, no
    such model) has no record, so a 4xx here is always an engine's answer.
    """
    return [_outcome(r, time_lapse) for r in records if not r.client_gone]


def tally(requests: Iterable[Outcome], slos: SloSet) -> Counts:
    """Count requests that were served, of them misses of any latency limit (errors do), errors and truncated streams.

    Refused ones are counted by themselves: they are quick, and whose fault they are only the comparison can tell.
    """
    finished = list(requests)
    seen = [(misses_any(r, slos.latency), not r.ok, r.truncated) for r in finished if not r.refused]
    return Counts(
        requests=len(seen),
        slo_misses=sum(missed for missed, _, _ in seen),
        errors=sum(error for _, error, _ in seen),
        truncated=sum(truncated for _, _, truncated in seen),
        refused=len(finished) - len(seen),
    )


def add(counts: Iterable[Counts]) -> Counts:
    """Pool several counts into one."""
    each = list(counts)
    return Counts(
        requests=sum(c.requests for c in each),
        slo_misses=sum(c.slo_misses for c in each),
        errors=sum(c.errors for c in each),
        truncated=sum(c.truncated for c in each),
        refused=sum(c.refused for c in each),
    )


def guard(requests: Sequence[Outcome], evidence: Evidence, options: RolloutOptions, now: datetime) -> Analysis | None:
    """Return a FAIL when a guard rail is hit by the canary's requests, None otherwise. No statistics: at once."""
    canary = evidence.canary
    if canary.truncated >= options.guard_truncated:
        reason = f"{canary.truncated} canary streams were truncated (limit {options.guard_truncated})"
        return _failed("truncated", reason, evidence, now)
    since = now - timedelta(seconds=options.guard_window_s)
    recent = [r for r in requests if r.finished_at >= since and not r.refused]
    bad = sum(r.status >= 500 for r in recent)
    if len(recent) >= BURST_MIN_REQUESTS and bad >= options.guard_5xx_ratio * len(recent):
        reason = f"{bad} of {len(recent)} canary requests ended in 5xx within {options.guard_window_s:g} s"
        return _failed("5xx_burst", reason, evidence, now)
    return None


def judge(
    evidence: Evidence, slos: SloSet, options: RolloutOptions, step: StepSpec, *, started_at: datetime, now: datetime
) -> Analysis:
    """Judge one step on what it has counted so far; `started_at` is the step's, wall-clock."""
    comparisons = compare(evidence, slos, options)
    verdict, reason = _verdict(comparisons, evidence, step, elapsed_s=(now - started_at).total_seconds())
    return Analysis(
        verdict=verdict,
        reason=f"{reason} [{_against(evidence.control)}]",
        at=now,
        canary=evidence.canary,
        stable=evidence.stable,
        comparisons=comparisons,
    )


def could_not_measure(reason: str, now: datetime, last: Analysis | None) -> Analysis:
    """Return the ERROR verdict, with what had been counted before."""
    canary = last.canary if last else Counts(requests=0, slo_misses=0, errors=0)
    return Analysis(verdict=Verdict.ERROR, reason=reason, at=now, canary=canary, stable=last.stable if last else None)


def compare(evidence: Evidence, slos: SloSet, options: RolloutOptions) -> tuple[Comparison, ...]:
    """Return canary minus control for misses, errors and refusals, each with its anytime-valid bounds.

    Without a stable request there is nothing to compare refusals with: nothing is promised about what clients ask.
    """
    canary, stable = evidence.canary, evidence.stable
    alpha = 1 - options.confidence
    allowed_misses = min(1.0, sum(slo.allowed_miss_ratio for slo in slos.latency))
    return (
        _comparison(
            "slo_miss_ratio",
            (canary.slo_misses, canary.requests),
            (stable.slo_misses, stable.requests) if stable else None,
            limit=allowed_misses,
            margin=options.miss_ratio_margin,
            alpha=alpha,
        ),
        _comparison(
            "error_ratio",
            (canary.errors, canary.requests),
            (stable.errors, stable.requests) if stable else None,
            limit=slos.max_error_ratio,
            margin=options.error_ratio_margin,
            alpha=alpha,
        ),
        *_refusals(canary, stable, options, alpha),
    )


def _refusals(canary: Counts, stable: Counts | None, options: RolloutOptions, alpha: float) -> tuple[Comparison, ...]:
    if stable is None:
        return ()
    mine, others = (canary.refused, _asked(canary)), (stable.refused, _asked(stable))
    margin = options.refusal_ratio_margin or max(options.miss_ratio_margin, options.error_ratio_margin)
    return (_comparison("refusal_ratio", mine, others, limit=0.0, margin=margin, alpha=alpha),)


def _asked(counts: Counts) -> int:
    return counts.requests + counts.refused


def _comparison(
    name: str,
    canary: tuple[int, int],
    stable: tuple[int, int] | None,
    *,
    limit: float,
    margin: float,
    alpha: float,
) -> Comparison:
    ratio, reference = _ratio(canary), limit if stable is None else _ratio(stable)
    low, high = _bounds(canary, stable, limit, alpha)
    return Comparison(
        name=name,
        canary_ratio=ratio,
        stable_ratio=None if stable is None else reference,
        difference=ratio - reference,
        low=low,
        high=high,
        margin=margin,
    )


def _bounds(canary: tuple[int, int], stable: tuple[int, int] | None, limit: float, alpha: float) -> tuple[float, float]:
    """Return what the difference is at least (to fail) and at most (to pass), each at its own confidence."""
    if stable is None:
        return miss_ratio_bounds(*canary, alpha / _COMPARISONS)[0] - limit, miss_ratio_bounds(*canary, alpha)[1] - limit
    low, _ = difference_bounds(*canary, *stable, alpha / _COMPARISONS)
    _, canary_high = miss_ratio_bounds(*canary, _CANARY_SHARE * alpha)
    stable_low, _ = miss_ratio_bounds(*stable, (1 - _CANARY_SHARE) * alpha)
    return low, canary_high - stable_low


def _verdict(
    comparisons: Sequence[Comparison], evidence: Evidence, step: StepSpec, *, elapsed_s: float
) -> tuple[Verdict, str]:
    worse = [c for c in comparisons if c.low > c.margin]
    if worse:
        return Verdict.FAIL, f"certainly worse: {_describe(worse[0])}"
    samples = evidence.canary.requests
    if samples < step.min_samples:
        return Verdict.INCONCLUSIVE, f"{samples} of at least {step.min_samples} canary requests"
    if elapsed_s < step.min_s:
        return Verdict.INCONCLUSIVE, f"{elapsed_s:.0f} s of at least {step.min_s:g} s"
    undecided = [c for c in comparisons if c.high > c.margin]
    if undecided:
        return Verdict.INCONCLUSIVE, f"not certain yet: {_describe(undecided[0])}"
    return Verdict.PASS, f"certainly within the margins after {samples} requests: {_describe(comparisons[0])}"


_SAID = {"slo_miss_ratio": "SLO misses", "error_ratio": "errors", "refusal_ratio": "refusals"}


def _describe(c: Comparison) -> str:
    points = f"{100 * c.difference:+.1f} in [{100 * c.low:+.1f}, {100 * c.high:+.1f}]"
    return f"{_SAID[c.name]} {points} percentage points, margin {100 * c.margin:g}"


def _against(control: Control) -> str:
    match control:
        case Control.CONCURRENT:
            return "against stable in the same step"
        case Control.EARLIER_STEPS:
            return "against stable in the earlier steps, as none serves beside this one"
        case Control.LIMITS:
            return "against the promised limits: no stable requests"


def _failed(rail: str, reason: str, evidence: Evidence, now: datetime) -> Analysis:
    return Analysis(
        verdict=Verdict.FAIL, reason=reason, at=now, canary=evidence.canary, stable=evidence.stable, guard=rail
    )


def _ratio(seen: tuple[int, int]) -> float:
    misses, requests = seen
    return misses / requests if requests else 0.0


def _outcome(record: GatewayRecord, time_lapse: float) -> Outcome:
    def lapsed(wall_ms: float | None) -> float | None:
        return None if wall_ms is None else wall_ms * time_lapse

    return Outcome(
        finished_at=record.at + timedelta(milliseconds=record.e2e_ms or 0.0),
        status=record.status,
        ok=record.ok,
        truncated=record.truncated,
        ttft_ms=lapsed(record.ttft_ms),
        tpot_ms=lapsed(record.tpot_ms),
        e2e_ms=lapsed(record.e2e_ms),
    )
