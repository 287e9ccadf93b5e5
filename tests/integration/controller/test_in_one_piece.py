"""A service whose users never ask for streams is judged by when its answers end, and can be promoted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from tests.builders_serving import a_spec, some_options
from tests.integration.controller.site import Site

TTFT = LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500)
TPOT = LatencySlo(metric=LatencyMetric.TPOT, percentile=95, limit_ms=50)
E2E = LatencySlo(metric=LatencyMetric.E2E, percentile=95, limit_ms=1500)
TOKENS = 21  # 500 ms and twenty times 50: 1.5 s


@dataclass
class WholeSite(Site):
    """Users take their answers in one piece; those of a slow revision end after 1.6 s, others' after 0.9."""

    error: str | None = None

    def _record(self, revision: RevisionId, engine_id: str) -> GatewayRecord:
        slow = revision in self.slow
        whole = super()._record(revision, engine_id).evolve(stream=False, ttft_ms=None, output_tokens=TOKENS)
        failed = {"error": self.error, "status": 502} if slow and self.error else {}
        return whole.evolve(e2e_ms=1600 if slow else 900, **failed)


def rolled_out(*slos: LatencySlo, slow: bool, error: str | None = None) -> Site:
    site = WholeSite(error=error)
    spec = a_spec(rollout=some_options(20, 100, miss_ratio_margin=0.3, error_ratio_margin=0.3))
    site.serving(rollout=spec.rollout, slos=SloSet(latency=slos, target_qps=5))
    rollout = site.roll_out()
    if slow:
        site.slow.add(rollout.canary)
    site.passes_until(RolloutState.PROMOTED, RolloutState.ABORTED, RolloutState.PAUSED, requests=80)
    return site


@pytest.mark.parametrize("slos", [(TTFT, TPOT), (TTFT, E2E), (E2E,), (TTFT,), (TPOT,)])
def test_it_is_promoted_whatever_was_promised_of_tokens(slos: tuple[LatencySlo, ...]) -> None:
    site = rolled_out(*slos, slow=False)
    assert site.rollout.state is RolloutState.PROMOTED, site.rollout.reason
    assert [step.weight_percent for step in site.rollout.steps] == [20, 100]


@pytest.mark.parametrize("slos", [(TTFT, TPOT), (TTFT, E2E), (E2E,)])
def test_answers_that_end_too_late_for_their_tokens_abort(slos: tuple[LatencySlo, ...]) -> None:
    site = rolled_out(*slos, slow=True)
    assert site.rollout.state is RolloutState.ABORTED
    assert "SLO misses +" in site.rollout.reason


def test_where_nothing_is_promised_of_the_end_errors_are_misses_still() -> None:
    site = rolled_out(TTFT, slow=True, error="upstream_disconnected")
    assert site.rollout.state is RolloutState.ABORTED
