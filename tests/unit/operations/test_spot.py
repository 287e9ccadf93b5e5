"""What a notice of reclaim means: whom it takes, how long is left, and until when requests still come."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.cluster import ClusterOptions, SpotNodes
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.launch import engine_spec
from controlplane.domain.operations.cost import engines_usd_per_hour
from controlplane.domain.operations.spot import Notice, SpotOptions, seen_again, taken_in
from controlplane.domain.owner import ReplicaOwner
from tests.builders_serving import CHAT, NOW, a_spec, after

IMAGE = "registry/vllm@sha256:" + "0" * 64


def an_engine(*, spot: bool) -> Engine:
    owner, config = ReplicaOwner(CHAT, RevisionId("rev-1")), EngineConfig()
    spec = a_spec()
    of = engine_spec(
        EngineId("e-1"), owner, model=spec.model, engine=spec.engine, gpus=spec.gpus, config=config, spot=spot
    )
    return Engine(spec=of, state=EngineState.READY, started_at=NOW)


def a_notice(seconds: float | None = 120, **changes: object) -> Notice:
    return Notice(ends_at=None if seconds is None else after(seconds), why="it is taken back").evolve(**changes)


@pytest.mark.parametrize(("replicas", "floor"), [(0, 0), (1, 1), (2, 2), (5, 2)])
def test_the_floor_is_of_the_replicas_there_are_to_be(replicas: int, floor: int) -> None:
    assert SpotOptions(on_demand_replicas=2).floor(replicas) == floor


def test_a_notice_without_a_time_gives_what_the_clouds_give_at_least() -> None:
    assert taken_in(a_notice(None), NOW).ends_at == after(30)


def test_seen_again_the_first_notice_counts_and_its_end_only_comes_nearer() -> None:
    first = taken_in(a_notice(120), NOW)
    assert seen_again(first, a_notice(None), after(60)) == first
    assert seen_again(first, a_notice(300), after(60)) == first
    assert seen_again(first, a_notice(90), after(60)).ends_at == after(90)
    assert seen_again(first, a_notice(90), after(60)).noticed_at == NOW


def test_half_of_the_notice_lets_requests_in_and_all_but_a_moment_is_there_to_finish_them() -> None:
    reclaim = taken_in(a_notice(120), NOW)
    assert [reclaim.is_let_in(after(seconds)) for seconds in (0, 59, 60, 130)] == [True, True, False, False]
    assert [reclaim.left_s(after(seconds)) for seconds in (0, 100, 119, 500)] == [118, 18, 0, 0]


def test_a_spot_gpu_costs_its_own_price_where_one_is_named() -> None:
    spec = a_spec(spot=SpotOptions(price_usd_per_gpu_hour=1.0))
    engines = [an_engine(spot=False), an_engine(spot=True), an_engine(spot=True).evolve(state=EngineState.STOPPED)]
    assert engines_usd_per_hour(spec, engines) == 4.0
    assert engines_usd_per_hour(a_spec(spot=SpotOptions()), engines) == 6.0
    assert engines_usd_per_hour(a_spec(), engines) == 6.0


def test_on_a_cluster_how_many_and_on_which_nodes_belong_together() -> None:
    nodes = SpotNodes(node_selector={"karpenter.sh/capacity-type": "spot"})
    cluster = ClusterOptions(image=IMAGE, node_selector={"karpenter.sh/capacity-type": "on-demand"}, spot=nodes)
    assert a_spec(kubernetes=cluster, spot=SpotOptions()).spot == SpotOptions()
    with pytest.raises(ValidationError, match="belong together"):
        a_spec(kubernetes=cluster)
    with pytest.raises(ValidationError, match="names the nodes on demand"):
        ClusterOptions(image=IMAGE, spot=nodes)
