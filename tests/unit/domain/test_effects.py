"""How much slower a canary is: shown always, and failing a step only where a margin is declared."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from controlplane.domain.rollouts.analysis import Analysis, Counts, LatencyEffect, Verdict
from controlplane.domain.rollouts.arm import Arm
from controlplane.domain.rollouts.comparing import Control, Evidence
from controlplane.domain.rollouts.effects import Curves, Latencies, describe_effect, effects
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import LatencyMargin, RolloutOptions, StepSpec
from controlplane.domain.rollouts.warm_up import WarmUp
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from tests.builders_serving import NOW, after
from tests.unit.domain.test_judge import record

SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=5000),), target_qps=5)
STEP = StepSpec(weight_percent=50, min_samples=50, min_s=10)
NONE = Arm((), time_lapse=1.0).curves()


def margin(ms: float, percentile: int = 99) -> RolloutOptions:
    declared = {"metric": "ttft_ms", "percentile": percentile, "margin_ms": ms}
    return RolloutOptions(latency_margins=(LatencyMargin.model_validate(declared),))


def curves(requests: int, seed: int, factor: Callable[[random.Random], float] = lambda _: 1.0) -> Curves:
    rng, arm = random.Random(seed), Arm(SLOS.latency, time_lapse=1.0)
    for _ in range(requests):
        arm.add(record(ttft_ms=rng.lognormvariate(5, 0.4) * factor(rng), tpot_ms=rng.lognormvariate(3, 0.1)))
    return arm.curves()


def longer_tail(rng: random.Random) -> float:
    return 4.0 if rng.random() < 0.1 else 1.0


def found(canary: Curves, options: RolloutOptions | None = None) -> dict[tuple[LatencyMetric, float], LatencyEffect]:
    seen = Latencies(users=canary, replayed=NONE, stable=curves(8000, 2), before=curves(2000, 3))
    return {(each.metric, each.percentile): each for each in effects(seen, options or RolloutOptions())}


def verdict(effect: dict[tuple[LatencyMetric, float], LatencyEffect], options: RolloutOptions) -> Analysis:
    alike = Counts(requests=8000, slo_misses=0, errors=0)
    evidence = Evidence(canary=alike, stable=alike, control=Control.CONCURRENT, effects=tuple(effect.values()))
    return judge(evidence, SLOS, options, STEP, started_at=NOW, now=after(60))


def test_an_equal_canary_is_no_slower_at_any_percentile() -> None:
    shown = found(curves(8000, 1))
    assert len(shown) == 6
    for each in shown.values():
        assert each.low_ms is not None
        assert each.high_ms is not None
        assert each.low_ms < 0 < each.high_ms


def test_a_longer_tail_below_the_limit_is_shown_where_it_is_and_fails_nothing() -> None:
    shown = found(curves(8000, 1, longer_tail))
    tail, middle = shown[LatencyMetric.TTFT, 99], shown[LatencyMetric.TTFT, 50]
    assert tail.low_ms is not None
    assert middle.low_ms is not None
    assert tail.low_ms > 0 > middle.low_ms
    assert verdict(shown, RolloutOptions()).verdict is Verdict.PASS


def test_with_a_declared_margin_it_fails_the_step() -> None:
    options = margin(40)
    failed = verdict(found(curves(8000, 1, longer_tail), options), options)
    assert failed.verdict is Verdict.FAIL
    assert failed.reason.startswith("certainly worse: P99 TTFT: +")
    assert "margin 40 ms" in failed.reason


def test_within_a_declared_margin_it_passes_and_undecided_it_waits() -> None:
    wide, narrow = margin(2000), margin(20)
    assert verdict(found(curves(8000, 1, longer_tail), wide), wide).verdict is Verdict.PASS
    waits = verdict(found(curves(8000, 1), narrow), narrow)
    assert waits.verdict is Verdict.INCONCLUSIVE
    assert "not certain yet: P99 TTFT: " in waits.reason


def test_a_margin_on_what_nobody_streams_is_no_pass() -> None:
    waits = verdict({}, margin(100))
    assert waits.verdict is Verdict.INCONCLUSIVE
    assert "nothing told of P99 TTFT, margin 100 ms" in waits.reason


def test_where_no_stable_serves_beside_it_latencies_are_not_held_to_a_margin() -> None:
    alike = Counts(requests=8000, slo_misses=0, errors=0)
    evidence = Evidence(canary=alike, stable=alike, control=Control.EARLIER_STEPS)
    assert judge(evidence, SLOS, margin(100), STEP, started_at=NOW, now=after(60)).verdict is Verdict.PASS


def test_replayed_requests_are_compared_for_themselves() -> None:
    seen = Latencies(users=None, replayed=curves(3000, 1), stable=curves(8000, 2), before=NONE)
    assert all(each.replayed for each in effects(seen, RolloutOptions()))


def test_a_client_that_left_late_waited_at_least_so_long_and_what_failed_has_no_latency() -> None:
    arm = Arm(SLOS.latency, time_lapse=2.0, warm_up=WarmUp(1))
    cold = record(ttft_ms=9.0, engine_id="e")
    left = record(ttft_ms=None, client_gone=True, status=499, e2e_ms=4000.0, engine_id="e")
    failed = record(ttft_ms=50.0, status=502, error="upstream_disconnected")
    for each in (cold, left, failed, record(ttft_ms=None), record(ttft_ms=100.0)):
        arm.add(each)
    first = arm.curves()[LatencyMetric.TTFT]
    assert first.n == 2
    assert first.percentile_ms(99) == pytest.approx(8000, rel=0.02)
    assert first.percentile_ms(50) == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize(
    ("difference", "low", "high", "said"),
    [
        (120.0, 40.0, 210.0, "P99 TTFT: +120 ms (40 to 210)"),
        (-3.2, -8.5, None, "P99 TTFT: -3.2 ms (-8.5 or more)"),
        (20.0, None, 90.0, "P99 TTFT: +20 ms (at most 90)"),
        (20.0, None, None, "P99 TTFT: +20 ms (how much is not certain yet)"),
    ],
)
def test_an_effect_is_told_in_a_line(difference: float, low: float | None, high: float | None, said: str) -> None:
    told = LatencyEffect(
        metric=LatencyMetric.TTFT,
        percentile=99,
        canary_ms=300,
        stable_ms=300 - difference,
        difference_ms=difference,
        low_ms=low,
        high_ms=high,
    )
    assert describe_effect(told) == said
    assert describe_effect(told.evolve(replayed=True, margin_ms=50.0)) == f"replayed {said}, margin 50 ms"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"metric": "e2e_ms", "percentile": 99, "margin_ms": 5}, "'ttft_ms'> or <"),
        ({"metric": "ttft_ms", "percentile": 90, "margin_ms": 5}, "50, 95 or 99"),
        ({"metric": "ttft_ms", "percentile": 99, "margin_ms": 0}, "greater than 0"),
    ],
)
def test_a_margin_that_cannot_be_judged_is_refused(bad: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RolloutOptions.model_validate({"latency_margins": [bad]})


def test_two_margins_on_one_percentile_are_refused() -> None:
    one = {"metric": "ttft_ms", "percentile": 99, "margin_ms": 5}
    with pytest.raises(ValidationError, match="two latency_margins on the same percentile"):
        RolloutOptions.model_validate({"latency_margins": [one, {**one, "margin_ms": 7}]})
