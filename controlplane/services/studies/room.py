"""The GPUs of one host among the workers of one study: what may start now, and engines that nobody looks after."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.domain.base import StudyId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.owner import Owner, TrialOwner
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Study, TrialState
from controlplane.ports.fleet import Fleet
from controlplane.services.studies.session import StudySession
from controlplane.services.studies.trial_engine import free_for_trials, owner, remove_engine
from tuner.answer.policy import Action, Step


def has_room(fleet: Fleet, session: StudySession, step: Step, *, host: str) -> bool:
    """Say whether this host's GPUs hold one more trial beside those that other workers run or are about to start."""
    study, others = session.study, session.others()
    beside = [t for t in session.trials if t.state is TrialState.RUNNING and t.worker in others]
    reserved = sum(t.gpus for t in beside if t.host == host)
    if not reserved:
        return True  # whatever else holds GPUs here is none of ours: the trial itself waits for them a while
    held = sum(e.spec.gpus for e in fleet.list() if _is_of(e, study.study_id) and not e.state.is_over)
    return reserved + _least_gpus(study, step) <= held + free_for_trials(fleet, study.spec)


def lacks_gpus(fleet: Fleet, spec: ServiceSpec, step: Step) -> str | None:
    """Return why this host cannot check the whole fleet, None when it can (or nothing of the kind is to be done).

    Live replicas keep their GPUs: a study never waits for them to end.
    """
    if step.action is not Action.CHECK_FLEET or step.candidate is None:
        return None
    needed, free = step.candidate.fleet.gpus, free_for_trials(fleet, spec)
    return f"it needs {needed} GPUs, {free} of this host are free" if free < needed else None


def remove_leftovers(fleet: Fleet, session: StudySession, *, sleep: Callable[[float], None]) -> None:
    """Remove engines of workers that died: they would hold GPUs for ever. Those of the living are left alone."""
    engines = fleet.list()  # before the trials: a trial is saved before its engine starts
    session.refresh()
    others = session.others()
    kept = {owner(t) for t in session.trials if t.state is TrialState.RUNNING and t.worker in others}
    mine = {engine.spec.owner for engine in engines if _is_of(engine, session.study.study_id)}
    for wanted in mine - kept:
        remove_engines(fleet, wanted, sleep=sleep)


def remove_engines(fleet: Fleet, of: Owner, *, sleep: Callable[[float], None]) -> None:
    """Remove every engine of one owner."""
    for engine in fleet.list():
        if engine.spec.owner == of:
            remove_engine(fleet, engine.spec.engine_id, sleep=sleep)


def _is_of(engine: Engine, study: StudyId) -> bool:
    owned = engine.spec.owner
    return isinstance(owned, TrialOwner) and owned.study_id == study


def _least_gpus(study: Study, step: Step) -> int:
    """Return how many GPUs a step's engine takes, at least (what a search proposes is not known yet)."""
    match step.action:
        case Action.BASELINE | Action.CONFIRM_BASELINE:
            return study.baseline.gpus_per_replica
        case Action.CONFIRM_WINNER if step.candidate is not None:
            return step.candidate.measured.config.gpus_per_replica
        case Action.CHECK_FLEET if step.candidate is not None:
            return step.candidate.fleet.gpus
        case _:
            return 1 if step.trial is None else step.trial.gpus
