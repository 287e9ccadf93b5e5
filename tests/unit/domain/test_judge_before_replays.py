"""Before any user a canary is judged by what we send: before the first of it is answered there is no verdict."""

from __future__ import annotations

import pytest

from controlplane.domain.rollouts.analysis import Clustered, Counts, Verdict
from controlplane.domain.rollouts.bursts import Runs
from controlplane.domain.rollouts.comparing import Control, Evidence
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from tests.builders_serving import NOW, after

SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=500),), target_qps=5)
FIRST = StepSpec(weight_percent=0)


def answered(requests: int, *, streamed: int) -> Counts:
    ends = Clustered(n=requests, misses=0, runs=Runs(runs=0, open=0))
    return Counts(requests=requests, slo_misses=0, errors=0, streamed=streamed, whole=ends)


@pytest.mark.parametrize("streamed", [0, 10], ids=["users never stream", "users stream"])
@pytest.mark.parametrize("before", [None, 5], ids=["nothing before the step", "traffic before it"])
def test_it_is_waited_for(streamed: int, before: int | None) -> None:
    evidence = Evidence(
        canary=answered(0, streamed=0),
        stable=answered(10, streamed=streamed),
        before=None if before is None else answered(before, streamed=0),
        control=Control.CONCURRENT,
        users=False,
    )
    found = judge(evidence, SLOS, RolloutOptions(), FIRST, started_at=NOW, now=after(5))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert [each.replayed for each in found.comparisons] == [True, True, True]
