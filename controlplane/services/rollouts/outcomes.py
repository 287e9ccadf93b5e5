"""What a rollout's live traffic said goes back into the study that recommended it."""

from __future__ import annotations

from datetime import datetime

from controlplane.domain.base import RolloutId
from controlplane.domain.errors import NotFound
from controlplane.domain.event import Event
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState
from controlplane.domain.studies.study import LiveOutcome
from controlplane.ports.store import Store

_LOOK_AT = 3  # rollouts per service: one at a time is under way, so the last few hold all that just ended


def note_outcomes(store: Store, *, noted: set[RolloutId], now: datetime) -> None:
    """Write the outcome of every rollout that ended into its study, once. `noted` spares asking again and again."""
    for service, _ in store.list_services():
        for rollout, _ in store.list_rollouts(service.name, limit=_LOOK_AT):
            if rollout.state in ROLLOUT_FINAL and rollout.rollout_id not in noted:
                _note(store, rollout, now)
                noted.add(rollout.rollout_id)


def _note(store: Store, rollout: Rollout, now: datetime) -> None:
    if rollout.study_id is None:
        return
    try:
        study, version = store.get_study(rollout.study_id)
    except NotFound:  # nobody is left to learn from it
        return
    if any(outcome.rollout_id == rollout.rollout_id for outcome in study.outcomes):
        return
    found = outcome_of(rollout)
    event = Event(
        at=now,
        actor="controller",
        action="study.observed",
        subject=f"study/{study.study_id}",
        service=study.service,
        reason=found.reason,
        details={"rollout": rollout.rollout_id, "promoted": found.promoted},
    )
    store.save_study(study.evolve(outcomes=(*study.outcomes, found)), version, events=[event])


def outcome_of(rollout: Rollout) -> LiveOutcome:
    """Return what a finished rollout says of its configuration."""
    return LiveOutcome(
        rollout_id=rollout.rollout_id,
        promoted=rollout.state is RolloutState.PROMOTED,
        reason=rollout.reason or rollout.state.value,
        at=rollout.finished_at or rollout.updated_at,
        analyses=tuple(step.analysis for step in rollout.steps if step.analysis is not None),
    )
