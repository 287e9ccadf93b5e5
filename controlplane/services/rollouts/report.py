"""Gather what is known of one rollout: its steps and verdicts, what is different, what was promised, what happened."""

from __future__ import annotations

from controlplane.domain.base import RolloutId
from controlplane.domain.revision_changes import revision_changes
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.rollouts.rollout_report import RolloutReport
from controlplane.ports.store import Store
from controlplane.services.rollouts.looks import read_looks
from controlplane.services.rollouts.promise import promise_of

_EVENTS = 500


def rollout_report(store: Store, rollout_id: RolloutId) -> RolloutReport:
    """Return the report of a rollout, over or not. Raises NotFound."""
    rollout = store.get_rollout(rollout_id).value
    spec = store.get_service(rollout.service).value.spec
    canary = store.get_revision(rollout.canary).engine
    events = store.list_events(subject=f"rollout/{rollout_id}", limit=_EVENTS)
    return RolloutReport(
        rollout=rollout,
        engine=canary.kind,
        gpu=spec.gpus.type,
        time_lapse=canary.time_lapse,
        slos=spec.slos,
        changes=_changes(store, rollout),
        promise=promise_of(store, rollout),
        looks=read_looks(store, rollout_id).looks,
        events=tuple(reversed(events)),
    )


def _changes(store: Store, rollout: Rollout) -> tuple[str, ...]:
    if rollout.stable is None:
        return ("the first revision that serves",)
    found = revision_changes(*(store.get_revision(each) for each in (rollout.stable, rollout.canary)))
    return found or ("nothing: the same flags, model and engine",)
