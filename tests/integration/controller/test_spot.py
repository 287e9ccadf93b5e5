"""Replicas on spot GPUs: placed beside those on demand, drained by their notice, replaced elsewhere at once."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from datetime import timedelta

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.operations.spot import Notice, SpotOptions
from controlplane.services.fleet.reclaims import ReclaimKeeper, read_reclaims
from controlplane.services.fleet.serving import service_status
from controlplane.services.operations.health import installation_health
from tests.builders_serving import CHAT, a_spec
from tests.fakes.fleet import FakeFleet
from tests.fakes.reclaims import FakeNotices
from tests.integration.controller.site import Site

LIVE = frozenset({EngineState.STARTING, EngineState.READY})


class Spot:
    """A site whose GPUs `spot` may be taken back, and the pass that hears of it."""

    def __init__(
        self, *, replicas: int = 2, gpus: int = 6, spot: Collection[int] = (3, 4, 5), floor: int = 1, startup_s: int = 0
    ) -> None:
        self.site = Site(gpus=gpus)
        self.site.fleet = FakeFleet(gpus=gpus, clock=self.site.clock, spot=spot)
        self.notices = FakeNotices()
        self.restart()
        engine = a_spec().engine.evolve(flags={"emulator-startup-s": startup_s})
        options = SpotOptions(on_demand_replicas=floor)
        pool = a_spec().gpus.evolve(count=gpus)
        self.site.serving(engine=engine, spot=options, gpus=pool, initial_replicas=replicas)
        self.go_on(startup_s + 2)

    def restart(self) -> None:
        """Let both passes die and begin anew."""
        self.site.restart()
        self.keeper = ReclaimKeeper(
            store=self.site.store, fleet=self.site.fleet, notices=self.notices, clock=self.site.clock
        )

    def go_on(self, passes: int = 3) -> None:
        for _ in range(passes):
            self.keeper.run()
            self.site.passes(1)

    def scale(self, replicas: int) -> None:
        service, version = self.site.store.get_service(CHAT)
        self.site.store.save_service(service.evolve(stable_replicas=replicas), version)

    def take_back(self, *gpus: int, within_s: float = 120) -> None:
        ends_at = self.site.clock() + timedelta(seconds=within_s)
        self.notices.given += [Notice(gpus=frozenset({gpu}), ends_at=ends_at, why=f"gpu {gpu}") for gpu in gpus]
        self.site.fleet.leaving |= set(gpus)

    def on(self, spot: bool) -> Sequence[Engine]:
        return [each for each in self.site.fleet.list() if each.state in LIVE and each.spec.spot == spot]

    @property
    def routed(self) -> set[str]:
        return {each.engine_id for route in self.site.table.services[0].revisions for each in route.backends}

    def events(self, action: str) -> Sequence[str]:
        return [each.subject for each in self.site.store.list_events(service=CHAT) if each.action == action]


def the(engines: Sequence[Engine]) -> tuple[EngineId, int]:
    [engine] = engines
    return engine.spec.engine_id, engine.gpu_indices[0]


def taken_back_while_busy(within_s: float = 120) -> tuple[Spot, EngineId, int]:
    """Return a place whose spot replica is to go while a stream runs on it, that replica and its GPU."""
    place = Spot()
    gone, gpu = the(place.on(spot=True))
    place.site.fleet.occupy(gone)
    place.take_back(gpu, within_s=within_s)
    return place, gone, gpu


def test_so_many_replicas_run_on_demand_and_the_others_where_they_may_be_taken_back() -> None:
    place = Spot(replicas=4, floor=2)
    assert (len(place.on(spot=False)), len(place.on(spot=True))) == (2, 2)


def test_without_a_word_about_spot_every_replica_runs_on_demand() -> None:
    site = Site(gpus=4)
    site.fleet = FakeFleet(gpus=4, clock=site.clock, spot={2, 3})
    site.restart()
    site.serving(initial_replicas=3)
    assert [engine.spec.spot for engine in site.fleet.list()] == [False, False], "two are on demand, a third waits"


def test_where_no_spot_gpu_is_free_a_replica_runs_on_demand() -> None:
    place = Spot(replicas=3, spot={5})
    assert (len(place.on(spot=False)), len(place.on(spot=True))) == (2, 1)


def test_a_reclaimed_replica_gets_nothing_new_finishes_and_is_replaced_elsewhere_at_once() -> None:
    place, gone, gpu = taken_back_while_busy()
    place.go_on(2)
    assert gone not in place.routed
    assert place.site.fleet.observe(gone).state is EngineState.DRAINING, "a stream still runs"
    assert the(place.on(spot=True))[1] != gpu
    place.go_on(1)
    assert len(place.routed) == 2
    place.site.fleet.release(gone)
    place.go_on(2)
    assert read_reclaims(place.site.store) == {}, "the fleet has forgotten it"
    assert place.events("engine.reclaimed") == [f"engine/{gone}"]


def test_a_stream_that_outlasts_the_notice_is_cut_just_before_its_end() -> None:
    place, gone, _ = taken_back_while_busy(within_s=30)
    place.go_on(20)
    assert place.site.fleet.observe(gone).state is EngineState.DRAINING
    place.go_on(15)
    assert gone not in {engine.spec.engine_id for engine in place.site.fleet.list()}
    assert place.events("engine.failed") == [], "nobody's fault"


@pytest.mark.parametrize("dies_after", [0, 1, 2, 3])
def test_a_notice_seen_twice_by_passes_that_died_in_between_is_one_reclaim(dies_after: int) -> None:
    place, gone, _ = taken_back_while_busy()
    place.keeper.run()
    for _ in range(dies_after):
        place.go_on(1)
    place.restart()
    place.go_on(4)
    assert place.events("engine.reclaimed") == [f"engine/{gone}"]
    assert len(place.on(spot=True)) == 1
    assert len(place.site.fleet.list()) == 3, "two that serve and the one that drains"


def test_a_notice_that_is_taken_back_or_cannot_be_asked_for_changes_nothing_any_more() -> None:
    place, gone, _ = taken_back_while_busy()
    place.go_on(2)
    place.notices.given.clear()
    place.restart()
    place.go_on(2)
    assert place.site.fleet.observe(gone).state is EngineState.DRAINING
    assert gone not in place.routed


def test_the_last_replica_of_all_gets_requests_for_half_of_its_notice() -> None:
    place = Spot(replicas=1, floor=0, spot={4, 5}, startup_s=300)
    gone, gpu = the(place.on(spot=True))
    place.take_back(gpu, within_s=40)
    place.go_on(15)
    assert place.routed == {gone}
    assert len(place.on(spot=True)) == 2, "its successor starts meanwhile"
    place.go_on(10)
    assert place.routed == set()


def test_what_is_taken_away_is_no_failure_that_slows_its_successor_down() -> None:
    place = Spot(replicas=3)
    for gone, gpu in [(e.spec.engine_id, e.gpu_indices[0]) for e in place.on(spot=True)]:
        place.take_back(gpu)
        place.keeper.run()
        place.site.fleet.crash(gone)
    place.go_on(2)
    assert len(place.on(spot=True)) + len(place.on(spot=False)) == 3


def test_fewer_replicas_take_spot_ones_first() -> None:
    place = Spot(replicas=4)
    for engine in place.on(spot=True):
        place.site.fleet.occupy(engine.spec.engine_id, 5)
    place.scale(1)
    place.go_on(2)
    assert (len(place.on(spot=False)), len(place.on(spot=True))) == (1, 0)


def test_a_higher_floor_starts_one_on_demand_before_a_spot_one_goes() -> None:
    place = Spot(replicas=2, startup_s=5)
    service, version = place.site.store.get_service(CHAT)
    raised = service.spec.evolve(spot=SpotOptions(on_demand_replicas=2))
    place.site.store.save_service(service.evolve(spec=raised), version)
    place.go_on(3)
    assert (len(place.on(spot=False)), len(place.on(spot=True))) == (2, 1)
    assert len(place.routed) == 2
    place.go_on(6)
    assert (len(place.on(spot=False)), len(place.on(spot=True))) == (2, 0)


def test_status_and_health_say_who_is_taken_away_and_when() -> None:
    place, gone, _ = taken_back_while_busy()
    place.go_on(2)
    site = place.site
    assert list(service_status(site.store, site.fleet, CHAT, now=site.clock()).reclaimed) == [gone]
    found = installation_health(site.store, site.fleet, site.records, now=site.clock())
    assert any(f"{gone} is taken away at" in each.text for each in found.services[0].findings)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_taken_back_crashes_or_is_scaled_no_act_of_ours_breaks_the_floor(seed: int) -> None:
    chance, place = random.Random(seed), Spot(replicas=3, floor=2, startup_s=3)
    fleet = place.site.fleet
    for _ in range(60):
        live = [engine for engine in place.on(spot=True)]
        match chance.randrange(8):
            case 0 if live:
                place.take_back(chance.choice(live).gpu_indices[0], within_s=chance.choice([10, 30, 120]))
            case 1 if live:
                fleet.crash(chance.choice(live).spec.engine_id)
            case 2:
                place.scale(chance.randrange(1, 4))
            case 3:
                place.restart()
            case 4:
                place.notices.given.clear()
                fleet.leaving.clear()
            case _:
                pass
        wanted = min(2, place.site.service.stable_replicas)
        ready = sum(engine.state is EngineState.READY for engine in place.on(spot=False))
        place.go_on(1)
        after = sum(engine.state is EngineState.READY for engine in place.on(spot=False))
        assert after >= min(ready, wanted, place.site.service.stable_replicas)
        assert len(place.on(spot=False)) >= wanted
