"""Look the capacity model of a revision up in what the studies of its service measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import NotFound
from controlplane.domain.operations.replica_capacity import ReplicaCapacity, Source, measured
from controlplane.domain.revision import Revision
from controlplane.domain.service import ServiceSpec
from controlplane.domain.start_budget import start_budget_s
from controlplane.domain.studies.study import Confirmed, Study, Trial
from controlplane.ports.store import Store

_STUDIES = 20


def keep_revision(store: Store, revision: Revision, spec: ServiceSpec) -> Revision:
    """Keep a revision and return it as it is kept: a new one with the start-up budget that studies on the GPUs of
    `spec` measured, one that is there already as it was named first. Raises Unavailable.
    """
    store.add_revision(with_start_budget(store, revision, spec))
    return store.get_revision(revision.revision_id)


def with_start_budget(store: Store, revision: Revision, spec: ServiceSpec) -> Revision:
    """Return what `keep_revision` would keep; nothing is saved. Raises Unavailable."""
    try:
        return store.get_revision(revision.revision_id)
    except NotFound:
        seen_s = _starts_s(store, revision, spec.gpus.type)
    if not seen_s:
        return revision
    longest_s = max(*seen_s, spec.autoscale.startup_s or 0.0)
    return revision.evolve(start_budget_s=start_budget_s(longest_s, ceiling_s=revision.engine.start_timeout_s))


def _starts_s(store: Store, revision: Revision, gpu_type: str) -> Sequence[float]:
    """Return the starts that studies on such GPUs saw of just this model, engine and config. Wall clock."""
    studies = [study for study, _ in store.list_studies(revision.service, limit=_STUDIES)]
    alike = [each for each in studies if _is_same(each.spec, revision) and each.spec.gpus.type == gpu_type]
    trials = [trial for study in alike for trial, _ in store.list_trials(study.study_id)]
    return [each.startup_s for each in trials if each.config == revision.config and each.startup_s is not None]


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
