"""The pass that gives services which share GPUs their turns: puts some to sleep, wakes others. Beside the controller.

Whose turn it is stands in the store before anything is done about it. Then, each after the one before, whoever dies in
between: the controller takes the others out of every gateway's table and says that they rest; they are noted as maybe
asleep, and sleep; the pool is noted as clear; only then may an engine wake or start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.base import EngineId, ServiceName
from controlplane.domain.door.routing import InFlight
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.errors import FleetuneError, InvalidInput
from controlplane.domain.operations.turns import Member, Turns, given_back, next_turns
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.fleet import Fleet
from controlplane.ports.gateways import FlightView
from controlplane.ports.sleeping import EngineSleeper
from controlplane.ports.store import Store, Versioned
from controlplane.services.fleet.resting import (
    note_asleep,
    note_awake,
    read_asleep,
    read_resting,
    read_turns,
    write_turns,
)
from controlplane.services.fleet.world import service_of

Flights = Mapping[str, Sequence[InFlight]]
"""What gateways serve now, by service."""


class Pool(NamedTuple):
    """Services that share GPUs, and every engine that lives on these, of services that left too."""

    name: str
    services: Sequence[Service]
    engines: Sequence[Engine]

    def engine_of(self, service: ServiceName) -> Sequence[Engine]:
        return [each for each in self.engines if service_of(each) == service]


class CannotSleepError(FleetuneError):
    """An engine that has to make place for another has no sleep mode."""

    def __init__(self, service: ServiceName, engine: EngineId, why: str) -> None:
        super().__init__(f"{service} keeps its turn", why=why)
        self.service, self.engine = service, engine


class TurnKeeper:
    """One for an installation. What it remembers (who waits since when, who was used last) it may forget."""

    def __init__(
        self, *, store: Store, fleet: Fleet, flights: FlightView, sleeper: EngineSleeper, clock: Clock
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._flights = flights
        self._sleeper = sleeper
        self._clock = clock
        self._waits: dict[ServiceName, datetime] = {}
        self._used: dict[ServiceName, datetime] = {}
        self._unable: set[EngineId] = set()

    def run(self) -> Sequence[str]:
        """Move every pool on by what can be done now; returns what could not be done."""
        shared = [row.value for row in self._store.list_services() if row.value.spec.shares is not None]
        if not shared:
            return ()
        engines, problems = self._fleet.list(), list[str]()
        for pool in _pools(shared, engines):
            try:
                self._keep(pool, engines)
            except FleetuneError as error:  # one pool's trouble must not stop the others
                problems.append(f"GPUs shared by {pool.name}: {error}")
        return problems

    def _keep(self, pool: Pool, engines: Sequence[Engine]) -> None:
        self._forget_gone(pool)
        saved, flights = read_turns(self._store, pool.name), _by_service(self._flights.flights())
        turns = saved.value
        if not turns.clear:
            try:
                if not self._laid_down(pool, turns, flights):
                    return
            except CannotSleepError as error:
                self._unable.add(error.engine)
                note_awake(self._store, error.service, error.engine)
                self._save(pool, given_back(turns, error.service, self._clock()), saved.version)
                raise
            turns = turns.evolve(clear=True)
            saved = self._save(pool, turns, saved.version)
        self._wake(pool, turns)
        after = next_turns(turns, self._members(pool, engines, flights), self._clock())
        if after != turns:
            self._save(pool, after, saved.version)

    def _save(self, pool: Pool, turns: Turns, version: int) -> Versioned[Turns]:
        return Versioned(turns, write_turns(self._store, pool.name, turns, version))

    def _forget_gone(self, pool: Pool) -> None:
        for service in pool.services:
            alive = {each.spec.engine_id for each in pool.engine_of(service.name)}
            gone = read_asleep(self._store, service.name) - alive
            if gone:
                note_awake(self._store, service.name, *gone)

    def _laid_down(self, pool: Pool, turns: Turns, flights: Flights) -> bool:
        """Put everybody to sleep whose turn it is not; say whether all of them are seen asleep."""
        levels = {each.name: each.spec.shares.level for each in pool.services if each.spec.shares}
        others = [(service_of(each), each) for each in pool.engines]
        mine = [(name, each) for name, each in others if name is not None and not turns.has(name)]
        sent = {name for name, parts in flights.items() if any(each.revision and each.requests for each in parts)}
        return all([self._put_to_sleep(name, each, levels.get(name, 1), sent=name in sent) for name, each in mine])

    def _sleeps(self, service: ServiceName, engine: Engine, level: int, *, sent: bool) -> bool:
        """Say whether it sleeps; put it to sleep once no gateway sends it anything and nothing runs in it."""
        who = engine.spec.engine_id
        if not engine.takes_traffic:  # it starts, ends or hangs: its memory is its own until it is gone
            return False
        if self._sleeper.is_sleeping(engine) and who in read_asleep(self._store, service):
            return True
        if sent or who not in read_resting(self._store, service) or self._fleet.in_flight(who):
            return False
        note_asleep(self._store, service, who)
        self._sleeper.sleep(engine, level=level)
        return self._sleeper.is_sleeping(engine)

    def _put_to_sleep(self, service: ServiceName, engine: Engine, level: int, *, sent: bool) -> bool:
        """As `_sleeps`. Raises CannotSleepError."""
        try:
            return self._sleeps(service, engine, level, sent=sent)
        except InvalidInput as error:
            raise CannotSleepError(service, engine.spec.engine_id, str(error)) from error

    def _wake(self, pool: Pool, turns: Turns) -> None:
        for service in pool.services:
            shares = service.spec.shares
            if shares is None or not turns.has(service.name):
                continue
            asleep = read_asleep(self._store, service.name)
            for engine in pool.engine_of(service.name):
                if engine.spec.engine_id in asleep and engine.takes_traffic:
                    self._sleeper.wake(engine, level=shares.level)
                    if not self._sleeper.is_sleeping(engine):
                        note_awake(self._store, service.name, engine.spec.engine_id)

    def _members(self, pool: Pool, engines: Sequence[Engine], flights: Flights) -> Sequence[Member]:
        now = self._clock()
        failed = {service_of(each) for each in engines if each.state is EngineState.FAILED}
        return [
            self._member(each, pool.engine_of(each.name), flights.get(each.name, ()), each.name in failed, now)
            for each in pool.services
            if not each.stopped and each.stable_replicas
        ]

    def _member(
        self, service: Service, engines: Sequence[Engine], flights: Sequence[InFlight], failed: bool, now: datetime
    ) -> Member:
        name, asked = service.name, any(each.requests for each in flights)
        busy = asked or any(self._fleet.in_flight(each.spec.engine_id) for each in engines)
        if busy:
            self._used[name] = now
        if asked:
            self._waits.setdefault(name, now)
        else:
            self._waits.pop(name, None)
        assert service.spec.shares is not None, "only those are asked about"
        return Member(
            service=name,
            options=service.spec.shares,
            waits_since=self._waits.get(name),
            busy=busy,
            used_at=self._used.get(name),
            ready_at=max((each.ready_at for each in engines if each.ready_at), default=None),
            settling=any(each.state is EngineState.STARTING for each in engines)
            or bool(self._rests(name))
            or any(each.spec.engine_id in self._unable for each in engines),
            to_start=not engines and not failed,
        )

    def _rests(self, service: ServiceName) -> frozenset[EngineId]:
        """Return the engines that the controller has not yet given back to traffic, or which did not wake yet."""
        return read_resting(self._store, service) | read_asleep(self._store, service)


def _pools(services: Sequence[Service], engines: Sequence[Engine]) -> Sequence[Pool]:
    members: dict[str, list[Service]] = defaultdict(list)
    for service in services:
        if service.spec.shares is not None:
            members[service.spec.shares.pool].append(service)
    alive = [each for each in engines if not each.state.is_over and each.spec.shares_gpus is not None]
    return [
        Pool(name, each, [engine for engine in alive if engine.spec.shares_gpus == name])
        for name, each in sorted(members.items())
    ]


def _by_service(flights: Sequence[InFlight]) -> Flights:
    found: dict[str, list[InFlight]] = defaultdict(list)
    for each in flights:
        found[each.service].append(each)
    return found
