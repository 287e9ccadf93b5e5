"""Keep what the looks at a rollout found over time, beside it: written rarely, and nothing is decided on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.base import RolloutId
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.domain.rollouts.looks import Looks, is_news, look_at, with_look
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout
from controlplane.ports.store import Store, Versioned
from controlplane.services.kept import read_kept


def read_looks(store: Store, rollout_id: RolloutId) -> Looks:
    """Return what was kept of a rollout; nothing of one that is older than this."""
    return _read(store, rollout_id).value


class LookBook:
    """Of all rollouts under way; what is in the store is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[RolloutId, Versioned[Looks]] = {}

    def keep(
        self, rollout: Rollout, analysis: Analysis | None, weights: Sequence[int | None], *, now: datetime
    ) -> None:
        """Keep what is news. Raises StaleVersion when another controller wrote in between: it is read anew then."""
        name = rollout.rollout_id
        known = self._known.pop(name, None) or _read(self._store, name)
        look = look_at(rollout, analysis, weights, now=now)
        began = rollout.steps[-1].started_at if rollout.steps else rollout.created_at
        if is_news(known.value, look, began=began):
            value = with_look(known.value, look)
            version = self._store.write_setting(_setting(name), value.model_dump_json(), known.version)
            known = Versioned(value, version)
        if rollout.state not in ROLLOUT_FINAL:
            self._known[name] = known


def _read(store: Store, rollout_id: RolloutId) -> Versioned[Looks]:
    return read_kept(store, _setting(rollout_id), Looks.model_validate_json, Looks())


def _setting(rollout_id: RolloutId) -> str:
    return f"rollout-looks/{rollout_id}"
