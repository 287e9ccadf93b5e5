"""Look the capacity model of a revision up in what the studies of its service measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.operations.replica_capacity import ReplicaCapacity, Source, measured
from controlplane.domain.revision import Revision
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Confirmed, Study, Trial
from controlplane.ports.store import Store

_STUDIES = 20


class Measured(NamedTuple):
    """What a study says of one replica."""

    study: Study
    capacity: ReplicaCapacity


def measured_capacity(store: Store, revision: Revision) -> ReplicaCapacity | None:
    """Return what the newest study that measured just this model, engine and config says; None when none did.

    A confirmation, which is made of all levels, goes before the trial with the highest rate. Raises Unavailable.
    """
    found = measured_by(store, revision)
    return None if found is None else found.capacity


def measured_by(store: Store, revision: Revision) -> Measured | None:
    """Return the same with the study that measured it. Raises Unavailable."""
    for study, _ in store.list_studies(revision.service, limit=_STUDIES):
        if not _is_same(study.spec, revision):
            continue
        trials = [trial for trial, _ in store.list_trials(study.study_id) if trial.config == revision.config]
        if (found := _of_study(study, trials, revision)) is not None:
            return Measured(study, found)
    return None


def _is_same(spec: ServiceSpec, revision: Revision) -> bool:
    """Say whether a study's engines of a revision's flags were what the revision starts."""
    served = spec.ways.get(revision.config.alternative or spec.engine.kind.value)
    if served is None:
        return False
    measured = (served.model, served.engine.kind, served.engine.time_lapse)
    return measured == (revision.model, revision.engine.kind, revision.engine.time_lapse)


def _of_study(study: Study, trials: Sequence[Trial], revision: Revision) -> ReplicaCapacity | None:
    capable = [trial for trial in trials if trial.capacity is not None and trial.capacity.rps > 0]
    levels = [level for trial in capable for level in trial.levels]
    startups_s = [trial.startup_s for trial in trials if trial.startup_s is not None]
    confirmed = _confirmed(study, revision.config)
    best = max((t.capacity for t in capable if t.capacity is not None), key=lambda each: each.rps, default=None)
    capacity = best if confirmed is None else confirmed.capacity
    if capacity is None:
        return None
    return measured(
        capacity,
        levels,
        source=Source.TRIAL if confirmed is None else Source.CONFIRMED,
        startups_s=startups_s,
        revision=revision.revision_id,
    )


def _confirmed(study: Study, config: EngineConfig) -> Confirmed | None:
    if study.recommendation is None:
        return None
    evidence = study.recommendation.evidence
    if evidence.confirmed_winner is not None and evidence.winner.config == config:
        return evidence.confirmed_winner
    return evidence.confirmed_baseline if evidence.baseline.config == config else None
