"""How many requests a replica takes at once, as studies measured it: for the queues of the gateways."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from controlplane.domain.base import RevisionId
from controlplane.domain.errors import NotFound
from controlplane.ports.store import Store
from controlplane.services.capacities import measured_capacity
from controlplane.services.fleet.world import World

LOOKED_EVERY = timedelta(minutes=1)


class MeasuredLimits:
    """Looks a revision up once a minute: what studies say changes seldom, and reading them takes a while."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[RevisionId, tuple[datetime, int | None]] = {}

    def of(self, world: World, now: datetime) -> Mapping[RevisionId, int]:
        """Return what is known of the revisions of a service that queues and does not say it itself."""
        queue = world.service.spec.gateway.queue
        if not queue.enabled or queue.concurrency_limit is not None:
            return {}
        revisions = (world.service.stable, world.rollout.canary if world.rollout else None)
        found = {revision: self._limit(revision, now) for revision in revisions if revision is not None}
        return {revision: limit for revision, limit in found.items() if limit is not None}

    def _limit(self, revision: RevisionId, now: datetime) -> int | None:
        kept = self._known.get(revision)
        if kept is None or not timedelta(0) <= now - kept[0] < LOOKED_EVERY:
            kept = self._known[revision] = now, self._measured(revision)
        return kept[1]

    def _measured(self, revision: RevisionId) -> int | None:
        try:
            capacity = measured_capacity(self._store, self._store.get_revision(revision))
        except NotFound:
            return None
        return None if capacity is None else capacity.concurrency_limit
