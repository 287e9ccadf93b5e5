"""A canary that is slower than stable, and still within every limit, from its records to the verdict."""

from __future__ import annotations

import pytest

from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.rollouts.rollout_options import LatencyMargin
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from tests.builders_serving import some_options
from tests.integration.controller.site import Site

WIDE = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=5000),), target_qps=5)
MARGIN = LatencyMargin(metric=LatencyMetric.TTFT, percentile=50, margin_ms=300)
BUSY = 400


def ended(*margins: LatencyMargin, state: RolloutState) -> Rollout:
    """Roll out a canary whose first tokens take 900 ms where stable's take 90, within a limit of 5 s."""
    site = Site()
    site.serving(slos=WIDE, rollout=some_options(latency_margins=margins))
    site.slow.add(site.roll_out().canary)
    return site.passes_until(state, requests=BUSY)


def test_without_a_margin_it_is_shown_and_promoted() -> None:
    analysis = ended(state=RolloutState.PROMOTED).steps[0].analysis
    assert analysis is not None
    middle = next(each for each in analysis.effects if each.percentile == 50)
    assert middle.difference_ms == pytest.approx(810, rel=0.05)
    assert middle.low_ms is not None
    assert middle.low_ms > 700


def test_with_a_margin_it_is_aborted_on_its_first_step_and_the_reason_says_how_much_slower() -> None:
    rollout = ended(MARGIN, state=RolloutState.ABORTED)
    assert len(rollout.steps) == 1
    assert "certainly worse: P50 TTFT: +" in rollout.reason
    assert "margin 300 ms" in rollout.reason


def test_a_new_controller_counts_the_same() -> None:
    site = Site()
    site.serving(slos=WIDE)
    site.slow.add(site.roll_out().canary)
    site.passes(6, requests=200)
    told = []
    for _ in range(2):
        site.restart()
        site.controller.run_pass()
        analysis = site.rollout.steps[-1].analysis
        assert analysis is not None
        told.append(analysis.effects)
    assert told[0] == told[1] != ()
