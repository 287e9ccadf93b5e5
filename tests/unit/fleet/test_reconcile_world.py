"""What the saved state wants of the fleet and of the gateways, and how the routing table is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.door.identity import Grant, Scope
from controlplane.domain.door.routing import RoutingTable
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.ports.store import Versioned
from controlplane.services.fleet.routing import TableKeeper
from controlplane.services.fleet.wanted import wants
from controlplane.services.fleet.world import World, exits, route
from controlplane.services.keys import create_key, note_use, revoke_key
from tests.builders_serving import CHAT, NOW, a_rollout, a_service, a_spec, after
from tests.fakes.store import FakeStore
from tests.fakes.traffic_router import FakeTrafficRouter

S = RolloutState
STABLE, CANARY = RevisionId("rev-stable"), RevisionId("rev-canary")


def an_engine(revision: RevisionId, number: int) -> Engine:
    spec = a_spec()
    wanted = engine_spec(
        EngineId(f"chat-{revision}-{number}"),
        ReplicaOwner(CHAT, revision),
        model=spec.model,
        engine=spec.engine,
        gpus=spec.gpus,
        config=EngineConfig(),
    )
    return Engine(spec=wanted, state=EngineState.READY, url=f"http://127.0.0.1:{9000 + number}", started_at=NOW)


def a_world(
    rollout: Rollout | None = None,
    *,
    stable: int = 1,
    canary: int = 0,
    serves: RevisionId | None = STABLE,
    stopped: bool = False,
) -> World:
    """A service that `serves` a revision, with so many ready engines of both."""
    engines = [an_engine(STABLE, n) for n in range(stable)] + [an_engine(CANARY, 10 + n) for n in range(canary)]
    saved = Versioned(a_service(stable=serves, stable_replicas=1, stopped=stopped), 1)
    return World(at=NOW, saved=saved, active=None if rollout is None else Versioned(rollout, 1), engines=engines)


def stepping(weight: int, state: RolloutState = S.PROGRESSING, **changes: object) -> Rollout:
    steps = ({"index": 0, "weight_percent": weight, "started_at": NOW},)
    return a_rollout(state=state, steps=steps, **changes)


def weights(world: World) -> dict[str, int]:
    return {each.revision: each.weight_percent for each in route(world).revisions}


@pytest.mark.parametrize(
    ("world", "split"),
    [
        (a_world(), {STABLE: 100}),
        (a_world(a_rollout(), canary=1), {STABLE: 100}),
        (a_world(stepping(5), canary=1), {STABLE: 95, CANARY: 5}),
        (a_world(stepping(100), canary=2), {CANARY: 100}),
        (a_world(stepping(5, S.PAUSED), canary=1), {STABLE: 95, CANARY: 5}),
        (a_world(stepping(5, S.ABORTING), canary=1), {STABLE: 100}),
        (a_world(stepping(5), canary=0), {STABLE: 100}),  # the canary's replica is gone
        (a_world(stepping(5), stable=0, canary=1), {CANARY: 100}),  # better than an error for 95 %
        (a_world(stepping(5, S.ABORTING), stable=0, canary=1), {STABLE: 100}),  # never back to what failed
        (a_world(stepping(5, S.PROMOTING), canary=1), {STABLE: 95, CANARY: 5}),  # one of two replicas
        (a_world(stepping(5, S.PROMOTING), canary=2), {CANARY: 100}),
        (a_world(stepping(5, S.PROMOTING), stable=0, canary=1), {CANARY: 100}),
        (a_world(stepping(100, S.PROMOTING), stable=0, canary=2, serves=CANARY), {CANARY: 100}),
        (a_world(a_rollout(stable=None), stable=0, serves=None), {}),
        (a_world(stopped=True), {}),
    ],
)
def test_traffic_is_split_by_state_and_by_who_is_ready(world: World, split: dict[str, int]) -> None:
    assert weights(world) == split


@pytest.mark.parametrize(
    ("world", "replicas"),
    [
        (a_world(), {STABLE: 1}),
        (a_world(a_rollout()), {STABLE: 1, CANARY: 1}),
        (a_world(stepping(100, step_index=2)), {STABLE: 1, CANARY: 2}),
        (a_world(stepping(5, S.ABORTING), canary=1), {STABLE: 1}),
        (a_world(stepping(5, S.PROMOTING), canary=1), {STABLE: 1, CANARY: 2}),
        (a_world(stepping(5, S.PROMOTING), canary=2), {CANARY: 2}),
        (a_world(stepping(5, S.HALTED), canary=2), {STABLE: 1, CANARY: 2}),
        (a_world(stopped=True), {}),
    ],
)
def test_the_state_says_how_many_replicas_of_which_revision(world: World, replicas: dict[str, int]) -> None:
    assert {revision: want.replicas for revision, want in wants(world).items()} == replicas


def test_during_a_promotion_no_new_stable_engine_is_started() -> None:
    wanted = wants(a_world(stepping(5, S.PROMOTING), canary=1))
    assert (wanted[STABLE].may_start, wanted[CANARY].may_start) == (False, True)


@pytest.mark.parametrize("failure", list(StartFailure))
def test_an_end_that_the_world_brought_about_is_no_exit_of_its_revision(failure: StartFailure) -> None:
    failed = an_engine(STABLE, 1).evolve(state=EngineState.FAILED, failure=failure)
    world = replace(a_world(), engines=[failed])
    of_the_world = {"port", "unschedulable", "image_pull", "node_lost"}
    assert (exits(world, STABLE) == [failed]) == (failure.value not in of_the_world)


def keeper(router: FakeTrafficRouter, store: FakeStore | None = None) -> TableKeeper:
    return TableKeeper(store=store or FakeStore(), router=router)


def test_the_version_rises_only_with_the_content() -> None:
    router = FakeTrafficRouter()
    tables = keeper(router)
    for _ in range(3):
        tables.push([a_world()], NOW)
    tables.push([a_world(stable=2)], NOW)
    assert [table.version for table in router.applied] == [1, 2]


def test_a_gateway_that_lost_its_table_gets_the_same_one_again() -> None:
    router = FakeTrafficRouter(["gw-1", "gw-2"])
    tables = keeper(router)
    tables.push([a_world()], NOW)
    router.tables["gw-2"] = None
    tables.push([a_world()], NOW)
    assert router.tables["gw-1"] == router.tables["gw-2"]
    assert [table.version for table in router.applied] == [1, 1]


def test_a_gateway_with_a_table_of_a_lost_store_is_outdone() -> None:
    router = FakeTrafficRouter()
    router.tables["gw-1"] = RoutingTable(version=57)
    keeper(router).push([a_world()], NOW)
    table = router.tables["gw-1"]
    assert table is not None
    assert (table.version, len(table.services)) == (58, 1)


def test_api_keys_reach_the_gateways() -> None:
    router, store = FakeTrafficRouter(), FakeStore()
    create_key(store, "ops", Grant(tenant="shop"), actor="x", now=NOW)
    keeper(router, store).push([], NOW)
    table = router.tables["gw-1"]
    assert table is not None
    assert [(key.name, key.tenant, key.scopes) for key in table.api_keys] == [("ops", "shop", (Scope.INFER,))]


def test_the_use_of_a_key_makes_no_new_table_and_its_end_does() -> None:
    router, store = FakeTrafficRouter(), FakeStore()
    create_key(store, "ops", Grant(), actor="x", now=NOW)
    tables = keeper(router, store)
    tables.push([], NOW)
    note_use(store, "ops", after(5))
    tables.push([], after(6))
    revoke_key(store, "ops", actor="x", now=after(7))
    tables.push([], after(8))
    assert [(table.version, len(table.api_keys), table.keys_required) for table in router.applied] == [
        (1, 1, True),
        (2, 0, True),
    ]


def test_a_gateway_that_hangs_beside_one_that_answers_holds_engines_back() -> None:
    router = FakeTrafficRouter(["gw-1", "gw-2"])
    tables = keeper(router)
    tables.push([a_world(stable=2)], NOW)
    router.down = {"gw-2"}  # it serves on by the table it has
    for second in (1, 2, 3):
        tables.push([a_world(stable=1)], after(second))
        assert tables.problem is not None
        assert not tables.may_stop(after(second))
    router.down = set()
    tables.push([a_world(stable=1)], after(4))
    assert tables.may_stop(after(4))
    assert router.tables["gw-1"] == router.tables["gw-2"]


def test_a_service_whose_route_cannot_be_made_keeps_its_last_while_others_move_on() -> None:
    router = FakeTrafficRouter()
    tables = keeper(router)
    other = a_world()
    other = replace(other, saved=Versioned(a_service(name="other", stable=STABLE), 1))
    tables.push([a_world(), other], NOW)
    broken = a_world(stepping(20), serves=None, stable=0)  # 20 % of the traffic, and nobody for the rest
    tables.push([broken, replace(other, engines=())], after(1))
    table = router.tables["gw-1"]
    assert table is not None
    assert {each.service: [len(r.backends) for r in each.revisions] for each in table.services} == {
        "chat": [1],
        "other": [0],
    }
    assert "the route of chat" in (tables.problem or "")
    assert not tables.may_stop(after(1))


def test_engines_are_not_stopped_while_a_gateway_may_still_use_them() -> None:
    router = FakeTrafficRouter()
    router.down = {"gw-1"}
    tables = keeper(router)
    tables.push([a_world()], NOW)
    assert tables.problem is not None
    assert not tables.may_stop(after(5))
    assert tables.may_stop(NOW + timedelta(seconds=31))
    router.down = set()
    tables.push([a_world()], after(40))
    assert tables.problem is None
