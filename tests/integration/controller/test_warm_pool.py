"""Engines kept warm come before cold starts, get no traffic, and are never routed to while they may be asleep."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from controlplane.domain.base import EngineId
from controlplane.domain.door.routing import InFlight
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.service import ServiceSpec
from controlplane.services.fleet.resting import note_asleep, read_asleep, read_resting
from controlplane.services.fleet.serving import service_status, stop_service
from controlplane.services.fleet.warm import WarmKeeper
from tests.builders_serving import CHAT, a_spec
from tests.fakes.sleeper import FakeSleeper
from tests.integration.controller.site import Site

SLEEPY = a_spec().engine.evolve(flags={"enable-sleep-mode": True}, env={"VLLM_SERVER_DEV_MODE": "1"})


class Pool:
    """A site with a warm pool, and the pass that keeps it."""

    def __init__(self, *, replicas: int = 1, gpus: int = 8, engine: Any = SLEEPY, **options: Any) -> None:
        self.site = Site(gpus=gpus)
        self.sleeper = FakeSleeper(before_sleep=self._check_unrouted)
        scale = AutoscaleOptions(**{"enabled": True, "warm_replicas": 1, "warm_asleep": True, **options})
        self.site.serving(engine=engine, autoscale=scale, initial_replicas=replicas)
        self.new_keeper()

    def new_keeper(self) -> None:
        self.keeper = WarmKeeper(store=self.site.store, fleet=self.site.fleet, sleeper=self.sleeper)

    def go_on(self, passes: int = 4) -> list[str]:
        problems: list[str] = []
        for _ in range(passes):
            self.site.passes(1)
            problems += self.keeper.run()
        return problems

    def scale(self, replicas: int) -> None:
        service, version = self.site.store.get_service(CHAT)
        self.site.store.save_service(service.evolve(stable_replicas=replicas), version)

    @property
    def routed(self) -> set[str]:
        return {each.engine_id for route in self.site.table.services[0].revisions for each in route.backends}

    @property
    def asleep(self) -> frozenset[EngineId]:
        return read_asleep(self.site.store, CHAT)

    def _check_unrouted(self, engine: Engine) -> None:
        assert engine.spec.engine_id not in self.routed, "an engine with traffic was put to sleep"
        assert engine.spec.engine_id in self.asleep, "asleep before that was written down"


def test_one_more_engine_is_started_and_sleeps_without_traffic() -> None:
    pool = Pool()
    pool.go_on()
    assert len(pool.site.engines()) == 2
    assert len(pool.routed) == 1
    assert pool.sleeper.asleep == pool.asleep
    assert pool.asleep.isdisjoint(pool.routed)
    status = service_status(pool.site.store, pool.site.fleet, CHAT, now=pool.site.clock())
    assert sum(status.ready_replicas.values()) == sum(status.desired_replicas.values()) == 1
    assert set(status.asleep) == set(status.warm) == pool.asleep


def test_the_one_asleep_serves_next_and_another_takes_its_place() -> None:
    pool = Pool()
    pool.go_on()
    [sleeper] = pool.asleep
    pool.scale(2)
    pool.go_on(8)
    assert sleeper in pool.routed
    assert ("wake", sleeper) in pool.sleeper.told
    assert len(pool.routed) == 2
    assert len(pool.site.engines()) == 3
    assert pool.asleep == pool.sleeper.asleep
    assert len(pool.asleep) == 1


def test_from_zero_the_one_asleep_is_woken_and_no_cold_start_is_waited_for() -> None:
    pool = Pool(min_replicas=0, replicas=0)
    pool.go_on()
    [sleeper] = pool.asleep
    assert pool.routed == set()
    pool.site.router.in_flight = [InFlight(service=CHAT, revision=None, requests=1)]
    pool.go_on()
    assert pool.routed == {sleeper}


def test_fewer_replicas_lay_one_down_again_and_no_stream_is_cut() -> None:
    pool = Pool(replicas=2)
    pool.go_on()
    pool.scale(1)
    pool.go_on(8)
    assert len(pool.routed) == 1
    assert len(pool.asleep) == 1
    assert pool.asleep.isdisjoint(pool.routed)


def test_an_engine_that_may_be_asleep_is_not_routed_to_whoever_died() -> None:
    pool = Pool()
    pool.go_on()
    [sleeper] = pool.asleep
    pool.scale(2)
    pool.site.restart()
    pool.site.passes(5)  # the warm pool's pass is dead
    assert sleeper not in pool.routed
    pool.new_keeper()
    pool.go_on()
    assert len(pool.routed) == 2, "the one started for the pool serves, the sleeper stays"
    pool.scale(3)
    pool.go_on()
    assert sleeper in pool.routed
    assert sleeper not in pool.asleep


def test_one_noted_asleep_that_never_slept_is_laid_down_by_the_next_pass() -> None:
    pool = Pool(warm_asleep=False)
    pool.go_on()
    [resting] = read_resting(pool.site.store, CHAT)
    assert not pool.asleep
    note_asleep(pool.site.store, CHAT, resting)
    service, version = pool.site.store.get_service(CHAT)
    asleep = service.spec.autoscale.evolve(warm_asleep=True)
    pool.site.store.save_service(service.evolve(spec=service.spec.evolve(autoscale=asleep)), version)
    pool.go_on()
    assert pool.sleeper.asleep == {resting}


def test_awake_ones_wait_ready_and_serve_at_once() -> None:
    pool = Pool(warm_asleep=False, engine=a_spec().engine)
    pool.go_on()
    [resting] = read_resting(pool.site.store, CHAT)
    assert resting not in pool.routed
    pool.scale(2)
    pool.site.passes(1)
    assert resting in pool.routed
    assert pool.sleeper.told == []


def test_one_that_cannot_sleep_stays_awake_and_is_told_of_once() -> None:
    pool = Pool()
    pool.sleeper.unable = {each.spec.engine_id for each in pool.site.engines()}
    problems = pool.go_on(6)
    assert len([each for each in problems if "cannot sleep" in each]) == 1
    assert not pool.asleep
    pool.scale(2)
    pool.site.passes(2)
    assert len(pool.routed) == 2


def test_one_that_dies_asleep_is_forgotten_and_replaced() -> None:
    pool = Pool()
    pool.go_on()
    [sleeper] = pool.asleep
    pool.site.fleet.crash(sleeper)
    pool.go_on(8)
    assert sleeper not in pool.asleep
    assert len(pool.asleep) == 1


def test_gateways_that_cannot_be_told_keep_engines_awake() -> None:
    pool = Pool(replicas=2)
    pool.go_on()
    before = pool.asleep
    pool.scale(1)
    pool.site.router.down = {"gw-1"}
    pool.go_on(5)
    assert pool.asleep <= before


def test_no_free_gpu_and_no_room_are_no_trouble() -> None:
    full = Pool(gpus=1)
    assert full.go_on() == []
    assert len(full.site.engines()) == 1
    limited = Pool(max_replicas=1)
    limited.go_on()
    assert len(limited.site.engines()) == 1


def test_beside_a_rollout_nothing_is_kept_warm() -> None:
    pool = Pool()
    pool.go_on()
    pool.site.roll_out(replicas=1)
    pool.go_on(6)
    assert not pool.asleep
    assert not read_resting(pool.site.store, CHAT)


def test_a_stopped_service_keeps_nothing_warm() -> None:
    pool = Pool()
    pool.go_on()
    stop_service(pool.site.store, CHAT, stopped=True, actor="cli", now=pool.site.clock())
    pool.go_on(8)
    assert not pool.site.engines()
    assert not pool.asleep


def test_what_cannot_sleep_is_refused_with_what_is_missing() -> None:
    scale = AutoscaleOptions(enabled=True, warm_replicas=1, warm_asleep=True)
    with pytest.raises(
        ValidationError, match=r"needs engine\.flags enable-sleep-mode: true and engine\.env VLLM_SERVER"
    ):
        a_spec(autoscale=scale)
    found: ServiceSpec = a_spec(autoscale=scale, engine=SLEEPY)
    assert found.autoscale.keeps_warm == 1


@pytest.mark.parametrize("asleep", [True, False])
def test_a_pool_that_is_switched_off_is_drained_and_nobody_is_left_resting(asleep: bool) -> None:
    pool = Pool(warm_asleep=asleep)
    pool.go_on()
    service, version = pool.site.store.get_service(CHAT)
    off = service.spec.autoscale.evolve(warm_replicas=0)
    pool.site.store.save_service(service.evolve(spec=service.spec.evolve(autoscale=off)), version)
    pool.go_on(8)
    assert len(pool.site.engines()) == len(pool.routed) == 1
    assert not read_resting(pool.site.store, CHAT)
    assert not pool.asleep
