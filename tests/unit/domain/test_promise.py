"""What a study promised beside what live traffic shows: held only where both cannot be true."""

from __future__ import annotations

import pytest

from controlplane.domain.base import StudyId
from controlplane.domain.rollouts.analysis import Analysis, Counts, LoadProof, Promise, Verdict
from controlplane.domain.rollouts.comparing import Control, Evidence
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.promise import describe_promise
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import CeilingPolicy, RolloutOptions, StepSpec
from controlplane.domain.rollouts.rollout_policy import Facts, advance
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from tests.builders_serving import NOW, a_rollout, after

SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500),), target_qps=6)
PROMISE = Promise(
    study_id=StudyId("st-1"), predicted_rps=4.4, confirmed_rps=4.0, confirmed_low_rps=3.6, confirmed_high_rps=4.3
)


def seen(misses: int, *, wanted_rps: float = 3.0, collapses: int = 0) -> Analysis:
    """A canary that misses as often as stable does: nothing is worse, whatever was promised."""
    counted = Counts(requests=5000, slo_misses=misses, errors=0)
    load = LoadProof(wanted_rps=wanted_rps, reached_rps=wanted_rps, proven=not collapses, collapses=collapses)
    evidence = Evidence(
        canary=counted,
        stable=Counts(requests=95_000, slo_misses=19 * misses, errors=0),
        control=Control.CONCURRENT,
        load=load,
        carried_rps=wanted_rps,
        promise=PROMISE,
    )
    step = StepSpec(weight_percent=5, max_s=10)
    return judge(evidence, SLOS, RolloutOptions(), step, started_at=NOW, now=after(60))


def test_a_promise_that_is_kept_stands_beside_the_verdict() -> None:
    kept = seen(misses=200)
    assert (kept.verdict, kept.shown and kept.shown.contradiction) == (Verdict.PASS, None)
    assert kept.shown is not None
    assert (kept.shown.miss_ratio, kept.shown.carried_rps) == (0.04, 3.0)
    assert kept.shown.allowed_ratio == pytest.approx(0.05)


def test_misses_far_beyond_the_limits_below_the_promised_capacity_hold_the_step() -> None:
    held = seen(misses=1000)
    assert held.verdict is Verdict.INCONCLUSIVE
    assert "not what was promised: at least" in held.reason
    assert "4.00 (3.60 to 4.30) confirmed, 4.40 predicted" in held.reason


def test_above_what_was_promised_nothing_is_contradicted() -> None:
    assert seen(misses=1000, wanted_rps=3.7).verdict is Verdict.PASS


def test_a_replica_that_does_not_keep_up_below_its_promised_capacity_contradicts_it() -> None:
    held = seen(misses=200, collapses=1)
    assert held.shown is not None
    assert "does not keep up with 3.00 requests/s" in str(held.shown.contradiction)


def test_a_broken_promise_is_not_proceeded_over_at_the_ceiling() -> None:
    steps = (StepSpec(weight_percent=5, max_s=10, on_ceiling=CeilingPolicy.PROCEED), StepSpec(weight_percent=100))
    begun = advance(a_rollout(options=RolloutOptions(steps=steps)), Facts(canary_ready=2), NOW)
    held = advance(begun, Facts(canary_ready=2, analysis=seen(misses=1000)), after(60))
    assert held.state is RolloutState.PAUSED
    assert "proceed, but paused: at least" in held.reason
    gone_on = advance(begun, Facts(canary_ready=2, analysis=seen(misses=200)), after(60))
    assert gone_on.state is RolloutState.PROGRESSING


def test_a_promise_that_nobody_measured_again_says_so() -> None:
    assert "nothing measured again" in describe_promise(PROMISE.evolve(confirmed_rps=None))
