"""The warm pool's pass: puts engines that rest to sleep, and wakes those that are to serve. Beside the controller.

Both take seconds, so they happen here; who rests is the controller's to say (`resting.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from controlplane.domain.base import EngineId, ServiceName
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import FleetuneError, InvalidInput
from controlplane.domain.serving import Service
from controlplane.ports.fleet import FleetView
from controlplane.ports.sleeping import EngineSleeper
from controlplane.ports.store import Store
from controlplane.services.fleet.resting import note_asleep, note_awake, read_asleep, read_resting
from controlplane.services.fleet.world import service_of


class WarmKeeper:
    """One pass over all services. An engine that cannot sleep stays awake, and is told of once."""

    def __init__(self, *, store: Store, fleet: FleetView, sleeper: EngineSleeper) -> None:
        self._store = store
        self._fleet = fleet
        self._sleeper = sleeper
        self._unable: set[EngineId] = set()
        self._awake: set[ServiceName] = set()

    def run(self) -> Sequence[str]:
        """Make sleep what rests and wake what does not; returns what could not be done."""
        services = [row.value for row in self._store.list_services() if row.value.spec.shares is None]
        asked = [each for each in services if each.spec.autoscale.warm_asleep or each.name not in self._awake]
        states = [(each.name, read_asleep(self._store, each.name), self._sleepy(each)) for each in asked]
        self._awake |= {name for name, asleep, _ in states if not asleep}  # only this pass lays anybody down
        states = [each for each in states if each[1] or each[2]]
        engines = self._fleet.list() if states else ()
        return [problem for state in states for problem in self._keep(*state, engines)]

    def _keep(
        self, name: ServiceName, asleep: frozenset[EngineId], sleepy: frozenset[EngineId], engines: Sequence[Engine]
    ) -> Sequence[str]:
        alive = {e.spec.engine_id: e for e in engines if service_of(e) == name and not e.state.is_over}
        there = {who: engine for who, engine in alive.items() if engine.takes_traffic}
        acts: list[Callable[[], None]] = [partial(note_awake, self._store, name, *(asleep - alive.keys()))]
        # Waking goes first: somebody waits for it.
        acts += [partial(self._wake, name, there[each]) for each in sorted((asleep - sleepy) & there.keys())]
        acts += [partial(self._lay_down, name, there[each]) for each in sorted((sleepy - self._unable) & there.keys())]
        return [problem for act in acts for problem in self._tried(act)]

    def _sleepy(self, service: Service) -> frozenset[EngineId]:
        """Return the engines that are to sleep."""
        return read_resting(self._store, service.name) if service.spec.autoscale.warm_asleep else frozenset()

    def _lay_down(self, name: ServiceName, engine: Engine) -> None:
        who = engine.spec.engine_id
        try:
            if self._sleeper.is_sleeping(engine) and who in read_asleep(self._store, name):
                return
            self._awake.discard(name)
            note_asleep(self._store, name, who)
            if who not in read_resting(self._store, name):  # wanted again meanwhile: the next pass wakes it
                return
            self._sleeper.sleep(engine)
        except InvalidInput:
            self._unable.add(who)
            note_awake(self._store, name, who)
            raise

    def _wake(self, name: ServiceName, engine: Engine) -> None:
        self._sleeper.wake(engine)
        if not self._sleeper.is_sleeping(engine):
            note_awake(self._store, name, engine.spec.engine_id)

    def _tried(self, act: Callable[[], None]) -> Sequence[str]:
        """One engine's trouble must not stop the others."""
        try:
            act()
        except FleetuneError as error:
            return (str(error),)
        return ()
