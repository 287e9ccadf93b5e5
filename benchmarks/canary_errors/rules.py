"""Rules that decide a step: ours, and those of Kayenta, Flagger and Argo Rollouts as their documentation has them.

Each gets the same requests. Kayenta compares the arms' per-minute values with a Mann-Whitney U test at the end of the
step and calls a metric worse when p < 0.01 in its direction (`mannwhitney`, tolerance 0.25); Flagger checks the
canary's share of good requests every minute against a fixed threshold and rolls back at the fifth failure; Argo
measures every minute and fails at more than two failures. The fixed thresholds are stable's true share plus the
margin: better informed than anybody who has to guess it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from scipy.stats import mannwhitneyu

from benchmarks.canary_errors.traffic import BASE, STEP_S, Canary, Series, Step
from controlplane.domain.rollouts.analysis import Analysis, Counts, LoadProof, Verdict
from controlplane.domain.rollouts.comparing import Control, Evidence, Flights, add
from controlplane.domain.rollouts.guards import guard
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet

OPTIONS = RolloutOptions()
SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500),), target_qps=1)
MINUTE_S = 60.0
LOOK_AGAIN = 1.05  # looks are so much further apart each time: every half second would say the same, slowly
_START = datetime(2026, 1, 1, tzinfo=UTC)


class Decided(NamedTuple):
    """What a rule said of a step and when; None: it never said anything."""

    passed: bool | None
    at_s: float


Rule = Callable[[Canary, Step, Sequence[Step]], Decided]


def ours(canary: Canary, step: Step, earlier: Sequence[Step]) -> Decided:
    """The judge as the controller asks it, guard rails included."""
    spec, at_s = StepSpec(weight_percent=step.weight), 1.0
    while at_s < STEP_S:
        found = _look(canary, step, earlier, spec, at_s)
        if found.verdict in (Verdict.PASS, Verdict.FAIL):
            return Decided(found.verdict is Verdict.PASS, at_s)
        at_s = max(at_s + 0.5, at_s * LOOK_AGAIN)
    return Decided(None, STEP_S)


def kayenta(canary: Canary, step: Step, earlier: Sequence[Step]) -> Decided:
    mine, others = _minutes(step.users), _minutes(_stable(step, earlier))
    if not mine or not others or mine == others or len(set(mine) | set(others)) == 1:
        return Decided(True, STEP_S)
    worse = mannwhitneyu(mine, others, alternative="greater").pvalue < 0.01
    beyond = sum(mine) / len(mine) > 1.25 * sum(others) / len(others)
    return Decided(not (worse and beyond), STEP_S)


def flagger(canary: Canary, step: Step, earlier: Sequence[Step]) -> Decided:
    return _fixed(step, failures=5)


def argo(canary: Canary, step: Step, earlier: Sequence[Step]) -> Decided:
    return _fixed(step, failures=3)


RULES: dict[str, Rule] = {"ours": ours, "kayenta": kayenta, "flagger": flagger, "argo": argo}


def _look(canary: Canary, step: Step, earlier: Sequence[Step], spec: StepSpec, at_s: float) -> Analysis:
    stable = step.stable.counts(at_s) if step.stable else add(_last(past) for past in earlier if past.stable)
    wanted = (step.users.rate_rps + (step.replayed.rate_rps if step.replayed else 0.0)) or 1.0
    load = LoadProof(wanted_rps=wanted, reached_rps=wanted, proven=True) if step.replayed else None
    hanging = step.hanging(at_s, canary)
    evidence = Evidence(
        canary=step.users.counts(at_s),
        stable=stable,
        control=Control.CONCURRENT if step.stable else Control.EARLIER_STEPS,
        replayed=step.replayed.counts(at_s) if step.replayed else None,
        load=load,
        before=step.before.counts(STEP_S),
        canary_flights=Flights(in_flight=hanging, overdue=hanging, hanging=hanging),
    )
    now = _START + timedelta(seconds=at_s)
    hit = guard([], evidence, OPTIONS, now)
    return hit or judge(evidence, SLOS, OPTIONS, spec, started_at=_START, now=now)


def _last(step: Step) -> Counts:
    assert step.stable is not None, "asked of steps with a stable beside"
    return step.stable.counts(STEP_S)


def _stable(step: Step, earlier: Sequence[Step]) -> Series:
    return next(each.stable for each in [step, *reversed(earlier)] if each.stable is not None)


def _minutes(series: Series) -> list[float]:
    seen = [series.misses_between(at, at + MINUTE_S) for at in _starts()]
    return [misses / requests for requests, misses in seen if requests]


def _fixed(step: Step, *, failures: int) -> Decided:
    failed = 0
    for at in _starts():
        requests, misses = step.users.misses_between(at, at + MINUTE_S)
        failed += bool(requests) and misses > (BASE + OPTIONS.miss_ratio_margin) * requests
        if failed >= failures:
            return Decided(False, at + MINUTE_S)
    return Decided(True, STEP_S)


def _starts() -> list[float]:
    return [MINUTE_S * number for number in range(int(STEP_S / MINUTE_S))]
