"""Services that take turns on one GPU: never two awake, no request lost, nobody starves, whoever dies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from controlplane.domain.base import EngineId, ServiceName
from controlplane.domain.door.routing import InFlight, ServiceRoute
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.errors import Conflict
from controlplane.domain.operations.share_options import ShareOptions
from controlplane.services.fleet.resting import read_asleep, read_turns
from controlplane.services.fleet.serving import describe_service, register_service, service_status, stop_service
from controlplane.services.fleet.turns import TurnKeeper
from tests.builders_serving import a_spec
from tests.fakes.killing import Killed, Killer, Moment
from tests.fakes.sleeper import FakeSleeper
from tests.integration.controller.site import BETTER, Site

POOL = "small"
SHARES = ShareOptions(pool=POOL, min_awake_s=3, turn_s=8)
ABLE = a_spec().engine.evolve(flags={"enable-sleep-mode": True}, env={"VLLM_SERVER_DEV_MODE": "1"})


class Sleeper(FakeSleeper):
    """Looks at the whole world before it obeys."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(before_sleep=shared.check_may_sleep)
        self.shared = shared

    def wake(self, engine: Engine, *, level: int = 1) -> None:
        super().wake(engine, level=level)
        self.shared.check_memory()


class Shared:
    """Services on one GPU, and requests that are held until theirs has a replica in the table."""

    def __init__(self, *names: str, **shares: Any) -> None:
        self.site = Site(gpus=1)
        self.sleeper = Sleeper(self)
        self.awake = shares.get("awake", 1)
        self.asked: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        for name in names or ("chat", "mail"):
            self.add(name, **shares)
        self.killer = Killer(at=0, moment=Moment.BEFORE)
        self.new_keeper()

    def add(self, name: str, **shares: Any) -> None:
        flags = {"gpu-memory-utilization": 0.9 / self.awake}
        engine = ABLE.evolve(flags={**ABLE.flags, **flags})
        model = a_spec().model.evolve(name=f"{name}-model")
        spec = a_spec(name=name, model=model, engine=engine, shares=SHARES.evolve(**shares))
        register_service(self.site.store, spec, actor="ann", now=self.site.clock())

    def new_keeper(self, killer: Killer | None = None) -> None:
        wrap = (killer or self.killer).wrap
        self.keeper = TurnKeeper(
            store=wrap(self.site.store),
            fleet=wrap(self.site.fleet),
            flights=wrap(self.site.router),
            sleeper=wrap(self.sleeper),
            clock=self.site.clock,
        )

    def go_on(self, seconds: int = 12) -> list[str]:
        problems: list[str] = []
        for _ in range(seconds):
            self.site.passes(1)
            self.check_memory()
            self._serve()
            problems += self.keeper.run()
            self.check_memory()
        return problems

    def _serve(self) -> None:
        """What was given to an engine a second ago is answered; what has a replica is given to it."""
        for engine in self.alive:
            self.site.fleet.release(engine.spec.engine_id)
        self.site.router.in_flight = []
        for route in self.site.table.services:
            count = self.asked[route.service]
            backends = [each for part in route.revisions for each in part.backends]
            if backends and count:
                self.site.fleet.occupy(EngineId(backends[0].engine_id), count)
                self.served[route.service] += count
                self.asked[route.service] = 0
            if count:
                revision = route.revisions[0].revision if backends else None
                self.site.router.in_flight.append(InFlight(service=route.service, revision=revision, requests=count))

    @property
    def alive(self) -> list[Engine]:
        return [each for each in self.site.fleet.list() if not each.state.is_over]

    def route(self, name: str) -> ServiceRoute:
        return next(each for each in self.site.table.services if each.service == name)

    @property
    def routed(self) -> set[str]:
        return {each.service for each in self.site.table.services if any(part.backends for part in each.revisions)}

    def check_memory(self) -> None:
        up = [each.spec.engine_id for each in self.alive if each.spec.engine_id not in self.sleeper.asleep]
        assert len(up) <= self.awake, f"{up} are awake at once"

    def check_may_sleep(self, engine: Engine) -> None:
        who, service = engine.spec.engine_id, str(engine.spec.owner).split("/")[1]
        assert not self.site.fleet.in_flight(who), "asleep with requests in it"
        assert service not in self.routed, "asleep while gateways send to it"
        assert who in read_asleep(self.site.store, ServiceName(service)), "asleep before that was written down"


def test_all_are_started_in_turn_on_the_same_gpu_and_all_but_one_sleep() -> None:
    shared = Shared("chat", "mail", "code")
    shared.go_on(30)
    assert {each.gpu_indices for each in shared.alive} == {(0,)}
    assert [each.state for each in shared.alive] == [EngineState.READY] * 3
    assert len(shared.sleeper.asleep) == 2
    assert len(shared.routed) == 1


def test_one_that_is_asked_for_wakes_what_was_held_is_served_and_nothing_starts_anew() -> None:
    shared = Shared()
    shared.go_on(20)
    (awake,) = shared.routed
    (other,) = {"chat", "mail"} - shared.routed
    hold = shared.route(other).hold
    assert hold is not None
    assert hold.wait_s == SHARES.hold_s
    engines = {each.spec.engine_id for each in shared.alive}
    shared.asked[other] = 5
    shared.go_on(6)
    assert (shared.served[other], shared.routed) == (5, {other})
    shared.asked[awake] = 1
    shared.go_on(8)
    assert (shared.served[awake], shared.routed) == (1, {awake})
    assert {each.spec.engine_id for each in shared.alive} == engines


def test_one_that_is_always_asked_gives_its_place_when_its_turn_is_over_and_gets_it_back() -> None:
    shared = Shared()
    shared.go_on(20)
    for _ in range(80):
        shared.asked += Counter({"chat": 1, "mail": 1})
        shared.go_on(1)
    assert min(shared.served["chat"], shared.served["mail"]) > 40
    turns = [told for told in shared.sleeper.told if told[0] == "wake"]
    assert 3 <= len(turns) <= 80 / SHARES.turn_s + 1


def test_with_room_for_two_the_least_recently_used_one_goes() -> None:
    shared = Shared("chat", "mail", "code", awake=2)
    shared.go_on(40)
    for name in ("chat", "mail"):
        shared.asked[name] = 1
        shared.go_on(10)
    assert shared.routed == {"chat", "mail"}
    shared.asked["chat"] = 1
    shared.go_on(6)
    shared.asked["code"] = 1
    shared.go_on(8)
    assert shared.routed == {"chat", "code"}


def test_an_engine_that_still_answers_is_left_alone_until_it_has() -> None:
    shared = Shared()
    shared.go_on(20)
    (awake,) = shared.routed
    (other,) = {"chat", "mail"} - shared.routed
    (engine,) = [each for each in shared.alive if f"/{awake}/" in f"/{each.spec.owner}/"]
    shared.asked[other] = 1
    for _ in range(20):
        shared.site.fleet.occupy(engine.spec.engine_id)
        shared.site.passes(1)
        shared.keeper.run()
    assert engine.spec.engine_id not in shared.sleeper.asleep
    shared.go_on(8)
    assert shared.routed == {other}


def test_one_that_crashes_in_its_turn_starts_again_and_a_sleeper_that_dies_starts_in_the_next() -> None:
    shared = Shared()
    shared.go_on(20)
    for each in shared.alive:
        shared.site.fleet.crash(each.spec.engine_id)
    shared.go_on(5)
    assert len(shared.alive) == 1
    (other,) = {"chat", "mail"} - shared.routed
    shared.asked[other] = 1
    shared.go_on(10)
    assert (shared.served[other], len(shared.alive)) == (1, 2)
    assert not read_asleep(shared.site.store, ServiceName(other))


def test_one_that_cannot_sleep_keeps_its_place_and_it_is_said() -> None:
    shared = Shared()
    shared.go_on(5)
    (engine,) = shared.alive
    shared.sleeper.unable = {engine.spec.engine_id}
    (mine,) = shared.routed
    told = shared.go_on(20)
    assert [each for each in told if "cannot sleep" in each and f"{mine} keeps its turn" in each]
    assert len(told) == 1
    shared.asked[mine] = 1
    shared.go_on(3)
    assert (shared.served[mine], shared.routed) == (1, {mine})


def test_a_sleeping_service_is_not_missing_a_replica() -> None:
    shared = Shared()
    shared.go_on(20)
    (other,) = {"chat", "mail"} - shared.routed
    status = service_status(shared.site.store, shared.site.fleet, ServiceName(other), now=shared.site.clock())
    assert set(status.desired_replicas.values()) == {0}
    assert len(status.asleep) == len(status.warm) == 1


def test_a_stopped_one_leaves_the_gpu_and_the_other_stays_awake() -> None:
    shared = Shared()
    shared.go_on(20)
    stop_service(shared.site.store, ServiceName("chat"), stopped=True, actor="ann", now=shared.site.clock())
    shared.go_on(20)
    assert shared.routed == {"mail"}
    assert len(shared.alive) == 1


def test_flags_change_while_it_is_stopped_and_pools_too() -> None:
    shared = Shared()
    shared.go_on(20)
    store, name = shared.site.store, ServiceName("chat")
    spec = store.get_service(name).value.spec
    other = spec.evolve(engine=spec.engine.evolve(flags={**spec.engine.flags, "max-num-seqs": 64}))
    away = spec.evolve(shares=None)
    for changed in (other, away):
        with pytest.raises(Conflict, match="stop it first"):
            describe_service(store, changed, actor="ann", now=shared.site.clock())
    with pytest.raises(Conflict, match="takes turns on the GPUs of small"):
        shared.site.roll_out(BETTER)
    stop_service(store, name, stopped=True, actor="ann", now=shared.site.clock())
    shared.go_on(5)
    describe_service(store, other, actor="ann", now=shared.site.clock())
    stop_service(store, name, stopped=False, actor="ann", now=shared.site.clock())
    shared.asked["chat"] = 1
    shared.go_on(20)
    (engine,) = [each for each in shared.alive if "/chat/" in f"/{each.spec.owner}/"]
    assert (engine.spec.config.flags["max-num-seqs"], shared.served["chat"]) == (64, 1)


@pytest.mark.parametrize("moment", list(Moment))
def test_whichever_call_kills_the_pass_never_two_are_awake_and_what_is_held_is_served(moment: Moment) -> None:
    survived = at = 0
    while not survived:
        at += 2 if moment is Moment.BEFORE else 3  # both together reach nearly every call
        shared = Shared()
        shared.go_on(20)
        (other,) = {"chat", "mail"} - shared.routed
        shared.asked[other] = 3
        killer = Killer(at=at, moment=moment)
        shared.new_keeper(killer)
        survived = died_not(shared)
        shared.site.restart()
        shared.new_keeper()
        shared.go_on(14)
        assert shared.served[other] == 3, f"killed {moment} call {at}"
        assert read_turns(shared.site.store, POOL).value.clear
    assert at > 20


@pytest.mark.parametrize("moment", list(Moment))
def test_whichever_call_kills_the_controller_never_two_are_awake_and_what_is_held_is_served(moment: Moment) -> None:
    survived = at = 0
    while not survived:
        at += 7  # of some hundred calls
        shared = Shared()
        shared.go_on(20)
        (other,) = {"chat", "mail"} - shared.routed
        shared.asked[other] = 3
        shared.go_on(1)  # it is seen: the turn changes
        site, wrap = shared.site, Killer(at=at, moment=moment).wrap
        site.restart(store=wrap(site.store), fleet=wrap(site.fleet), router=wrap(site.router))
        survived = died_not(shared)
        site.restart()
        shared.go_on(14)
        assert shared.served[other] == 3, f"killed {moment} call {at}"
    assert at > 70


def died_not(shared: Shared) -> int:
    try:
        shared.go_on(8)
    except Killed:
        return 0
    return 1
