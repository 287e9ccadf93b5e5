"""What the study that recommended a rollout's canary promised of one replica."""

from __future__ import annotations

from controlplane.domain.errors import NotFound
from controlplane.domain.rollouts.analysis import Promise
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.ports.store import Store


def promise_of(store: Store, rollout: Rollout) -> Promise | None:
    """Return the promise of the study a rollout came from; None of any other, and where it promised nothing."""
    if rollout.study_id is None:
        return None
    try:
        found = store.get_study(rollout.study_id).value.recommendation
    except NotFound:  # nobody is left to say what it promised
        return None
    if found is None:
        return None
    confirmed = found.evidence.confirmed_winner
    capacity = None if confirmed is None else confirmed.capacity
    return Promise(
        study_id=rollout.study_id,
        predicted_rps=found.evidence.winner.predicted.get("capacity_rps"),
        confirmed_rps=None if capacity is None else capacity.rps,
        confirmed_low_rps=None if capacity is None else capacity.low_rps,
        confirmed_high_rps=None if capacity is None else capacity.high_rps,
    )
