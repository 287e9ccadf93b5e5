"""Count what recommendations save while their revisions serve: a sum in the store, a look a minute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.operations.savings import Compared, Saved, Savings, compared, shown, went_on
from controlplane.domain.operations.spot import held_by
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import Recommendation
from controlplane.ports.store import Store, Versioned
from controlplane.services.fleet.surplus import kept as kept_engines
from controlplane.services.fleet.world import World
from controlplane.services.kept import read_kept

LOOK_EVERY = timedelta(seconds=60)
_STUDIES = 50
_KEPT = TypeAdapter(Savings | None)


class SavingsMeter:
    """One per controller. What a look finds is written at once: a controller that dies loses a minute at most."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked: dict[ServiceName, datetime] = {}
        self._sides: dict[ServiceName, tuple[RevisionId, tuple[Savings, Compared] | None]] = {}

    def keep(self, worlds: Sequence[World], now: datetime) -> None:
        """Look at every service that is due. Raises Unavailable, StaleVersion."""
        for world in worlds:
            last = self._looked.get(world.service.name)
            if last is None or not timedelta(0) <= now - last < LOOK_EVERY:
                self._looked[world.service.name] = now
                self._look(world, now)

    def _look(self, world: World, now: datetime) -> None:
        """Beside a rollout nothing is counted: two revisions share the load then."""
        stable = world.service.stable
        known = None if stable is None or world.rollout is not None else self._known(world.service, stable)
        if stable is None or known is None:
            return
        fresh, sides = known
        saved = _read(self._store, world.service.name)
        before = saved.value if saved.value is not None and saved.value.revision == stable else fresh
        spec, held, idle = world.service.spec, held_by(world.present(stable)), held_by(kept_engines(world))
        after = went_on(before, sides, spec.gpus, held=held, idle=idle, spot=spec.spot, at=now)
        self._store.write_setting(_setting(world.service.name), after.model_dump_json(), saved.version)

    def _known(self, service: Service, stable: RevisionId) -> tuple[Savings, Compared] | None:
        """Return what stable rests on; None for a revision that no study recommended. Looked up once."""
        known = self._sides.get(service.name)
        if known is None or known[0] != stable:
            known = self._sides[service.name] = stable, self._found(service, stable)
        return known[1]

    def _found(self, service: Service, stable: RevisionId) -> tuple[Savings, Compared] | None:
        promoted = [
            each.value.finished_at
            for each in self._store.list_rollouts(service.name)
            if each.value.canary == stable and each.value.state is RolloutState.PROMOTED and each.value.finished_at
        ]
        found = self._recommended(service.name, stable)
        sides = None if found is None else compared(found.evidence)
        if found is None or sides is None or not promoted:
            return None
        return Savings(revision=stable, study_id=found.study_id, promoted_at=max(promoted)), sides

    def _recommended(self, name: ServiceName, stable: RevisionId) -> Recommendation | None:
        for study, _ in self._store.list_studies(name, limit=_STUDIES):
            found = study.recommendation
            if found is not None and found.improvement and found.applied_revision == stable:
                return found
        return None


def read_saved(store: Store, service: Service) -> Saved | None:
    """Return what the recommendation that a service rests on saved; None where it rests on none, or before a look."""
    kept = _read(store, service.name).value
    return None if kept is None or kept.revision != service.stable else shown(kept)


def _read(store: Store, name: ServiceName) -> Versioned[Savings | None]:
    return read_kept(store, _setting(name), _KEPT.validate_json, None)


def _setting(name: ServiceName) -> str:
    return f"savings/{name}"
