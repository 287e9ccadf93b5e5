"""Take notices of reclaim in: which engines are to go, and by when, in the store. The controller's pass acts on it.

What was noticed once is kept until the fleet has forgotten the engine: a notice that is taken back, seen twice, or seen
by a process that dies changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.event import Event
from controlplane.domain.operations.spot import Notice, Reclaim, Reclaims, seen_again
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.reclaims import ReclaimNotices
from controlplane.ports.store import Store, Versioned
from controlplane.services.fleet.world import service_of
from controlplane.services.kept import read_kept

ACTOR = "reclaims"
_SETTING = "reclaims"


def read_reclaims(store: Store) -> Mapping[EngineId, Reclaim]:
    """Return the engines that are to go."""
    return _read(store).value.engines


class ReclaimKeeper:
    """One look at the notices; beside the controller's pass, since whom it asks may be slow."""

    def __init__(self, *, store: Store, fleet: FleetView, notices: ReclaimNotices, clock: Clock) -> None:
        self._store = store
        self._fleet = fleet
        self._notices = notices
        self._clock = clock
        self._is_calm = False

    def run(self) -> Sequence[str]:
        """Write down who is to go, and tell it. Raises Unavailable, StaleVersion: the next look tries again."""
        notices = self._notices.notices()
        if notices or not self._is_calm:  # only this pass takes any in
            self._take(notices)
        return ()

    def _take(self, notices: Sequence[Notice]) -> None:
        saved = _read(self._store)
        engines = {each.spec.engine_id: each for each in self._fleet.list()}
        before = saved.value.engines
        after = {name: each for name, each in before.items() if name in engines}
        for engine in engines.values():
            after |= self._of(engine, notices, after)
        news = [engines[name] for name in after if name not in before]
        if after != before:
            self._store.write_setting(_SETTING, Reclaims(engines=after).model_dump_json(), saved.version)
        for engine in news:
            self._tell(engine, after[engine.spec.engine_id])
        self._is_calm = not after

    def _of(
        self, engine: Engine, notices: Sequence[Notice], known: Mapping[EngineId, Reclaim]
    ) -> Mapping[EngineId, Reclaim]:
        if service_of(engine) is None or engine.state.is_over:
            return {}
        name, now = engine.spec.engine_id, self._clock()
        found = known.get(name)
        for notice in notices:
            found = seen_again(found, notice, now) if notice.takes(engine) else found
        return {} if found is None else {name: found}

    def _tell(self, engine: Engine, reclaim: Reclaim) -> None:
        self._store.add_event(
            Event(
                at=reclaim.noticed_at,
                actor=ACTOR,
                action="engine.reclaimed",
                subject=f"engine/{engine.spec.engine_id}",
                service=service_of(engine),
                reason=f"{reclaim.why}: it is taken away at {reclaim.ends_at:%H:%M:%S} UTC",
            )
        )


def _read(store: Store) -> Versioned[Reclaims]:
    return read_kept(store, _SETTING, Reclaims.model_validate_json, Reclaims())
