"""Charts of rollouts and of the twin's answers."""

from __future__ import annotations

import pytest

from controlplane.domain.base import ServiceName
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.operations.what_if import Expected, ExpectedPoint, WhatIfAnswer
from controlplane.domain.rollouts.analysis import Analysis, Comparison, Counts, Verdict
from controlplane.domain.rollouts.rollout import RolloutState, StepRecord
from controlplane.domain.studies.capacity import Capacity
from dashboards import theme
from dashboards.charts import rollout as charts_rollout
from dashboards.charts import what_if as charts_what_if
from tests.builders_serving import NOW, a_rollout, a_trial, after
from tests.e2e.dashboard.seed import a_chat_spec
from tests.e2e.dashboard.seed_reports import levels

SPEC = a_chat_spec()
SLO = SPEC.slos.latency[0]


def a_comparison(low: float, high: float) -> Comparison:
    middle = (low + high) / 2
    return Comparison(
        name="slo_miss_ratio", canary_ratio=0.1, stable_ratio=0.1, difference=middle, low=low, high=high, margin=0.05
    )


def an_analysis(*comparisons: Comparison, verdict: Verdict = Verdict.FAIL) -> Analysis:
    return Analysis(
        verdict=verdict, reason="r", at=NOW, canary=Counts(requests=9, slo_misses=1, errors=0), comparisons=comparisons
    )


@pytest.mark.parametrize(
    ("low", "high", "colour"),
    [(-0.02, 0.05, theme.GOOD), (-0.02, 0.06, theme.WARN), (0.05, 0.2, theme.WARN), (0.06, 0.2, theme.BAD)],
)
def test_a_comparison_is_red_or_green_only_when_its_interval_decides(low: float, high: float, colour: str) -> None:
    assert charts_rollout.comparison_colour(a_comparison(low, high)) == colour


def test_comparisons_are_drawn_in_percentage_points_with_their_margin() -> None:
    figure = charts_rollout.comparisons(an_analysis(a_comparison(-0.02, 0.06)))
    difference, margin = figure.data
    assert difference.x == pytest.approx((2.0,))
    assert difference.error_x.array == pytest.approx((4.0,))
    assert margin.x == pytest.approx((5.0,))


def test_an_aborted_rollouts_weight_ends_at_nothing() -> None:
    step = StepRecord(index=0, weight_percent=5, started_at=NOW, finished_at=after(9), analysis=an_analysis())
    rollout = a_rollout(state=RolloutState.ABORTED, steps=(step,), finished_at=after(10))
    weight, verdicts = charts_rollout.weights(rollout, after(99)).data
    assert weight.y == (0, 5, 0)
    assert weight.x[-1] == after(10)
    assert verdicts.text == ("fail",)


def test_a_rollout_without_a_step_is_a_flat_line() -> None:
    weight, verdicts = charts_rollout.weights(a_rollout(), after(5)).data
    assert set(weight.y) == {0}
    assert not verdicts.x


def an_answer(config: EngineConfig) -> WhatIfAnswer:
    def point(rate: float, saturated: bool) -> ExpectedPoint:
        latency = {charts_what_if.latency_name(SLO): Expected(value=100 * rate, low=90 * rate, high=120 * rate)}
        return ExpectedPoint(rate_rps=rate, saturated=saturated, latency=latency, kv_usage=0.5)

    return WhatIfAnswer(
        service=ServiceName("chat"),
        config=config,
        profile="p",
        capacity=Capacity(rps=2, low_rps=1.8, high_rps=2.2),
        curve=(point(1, False), point(2, False), point(3, True)),
    )


def test_the_predicted_curve_ends_where_the_engine_saturates() -> None:
    _, line = charts_what_if.curve(an_answer(EngineConfig()), SLO, []).data
    assert line.x == (1, 2)


def test_only_levels_measured_with_exactly_these_flags_are_laid_over_the_curve() -> None:
    asked, other = EngineConfig(flags={"max-num-seqs": 64}), EngineConfig()
    trials = [a_trial(config=config, levels=levels(SPEC, 4, [1, 2])) for config in (asked, other)]
    found = charts_what_if.measured_levels(an_answer(asked), SLO, trials)
    assert [rate for rate, _ in found] == [1, 2]
