"""The controller's other duties: due schedules, finished studies that are to be applied, and forsaken trial engines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.base import RevisionId, StudyId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.event import Event
from controlplane.domain.owner import ReplayOwner, TrialOwner
from controlplane.domain.schedule import ReplayRun, Schedule, ScheduledAction
from controlplane.domain.studies.study import STUDY_FINAL, Study, TrialState
from controlplane.ports.fleet import Fleet
from controlplane.ports.store import Store, Versioned
from controlplane.services.controller.claims import ClaimWatch
from controlplane.services.operations.drift import CreateStudy
from controlplane.services.rollouts.manage import active_rollout, revision_of, start_rollout, with_alternatives
from controlplane.services.rollouts.shares import active_ab_test
from controlplane.services.studies.commit import commits
from controlplane.services.studies.trial_engine import engine_ids, owner


def fire_due(store: Store, *, create_study: CreateStudy, now: datetime) -> None:
    """Create the studies and replays of every due schedule. A firing missed for whatever reason happens once, late."""
    for row in store.list_schedules():
        schedule = row.value
        if schedule.next_at > now or schedule.spec.paused:
            continue
        if schedule.spec.action is ScheduledAction.REPLAY:
            _fire_replay(store, row, now)
        else:
            _fire(store, row, create_study=create_study, now=now)


def _fire_replay(store: Store, row: Versioned[Schedule], now: datetime) -> None:
    """Leave the replay to a worker. Due and fired in one save: no crash in between can fire it twice."""
    schedule, version = row
    upcoming = schedule.spec.next_after(now)
    if schedule.replay_run is not None:
        missed = _event(schedule, "schedule.failed", f"replay {schedule.replay_run.number} is not over", now)
        store.save_schedule(schedule.evolve(next_at=upcoming), version, events=[missed])
        return
    run = ReplayRun(number=store.next_number(f"replay/{schedule.service}"), due_at=schedule.next_at)
    fired = _event(schedule, "schedule.fired", f"replay {run.number}", now)
    store.save_schedule(schedule.evolve(next_at=upcoming, last_at=now, replay_run=run), version, events=[fired])


def _fire(store: Store, row: Versioned[Schedule], *, create_study: CreateStudy, now: datetime) -> None:
    schedule, version = row
    try:
        study = _fired_before(store, schedule) or create_study(
            store,
            service=schedule.service,
            actor=_actor(schedule),
            now=now,
            apply_when_done=schedule.spec.action is ScheduledAction.TUNE_AND_APPLY,
        )
    except (Conflict, InvalidInput, NotFound) as error:
        missed = _event(schedule, "schedule.failed", str(error), now)
        store.save_schedule(schedule.evolve(next_at=schedule.spec.next_after(now)), version, events=[missed])
        return
    after = schedule.evolve(next_at=schedule.spec.next_after(now), last_at=now, last_study=study.study_id)
    store.save_schedule(after, version, events=[_event(schedule, "schedule.fired", f"study {study.study_id}", now)])


def _fired_before(store: Store, schedule: Schedule) -> Study | None:
    """Return the study of this very firing, if the controller died after creating it."""
    mine = [s for s, _ in store.list_studies(schedule.service, limit=20) if s.created_by == _actor(schedule)]
    return next((s for s in mine if s.created_at >= schedule.next_at and s.study_id != schedule.last_study), None)


def apply_finished(store: Store, *, now: datetime) -> None:
    """Start the rollout of every finished study that is to be applied, one at a time per service.

    What is to be committed instead is a worker's to commit.
    """
    for study, version in store.studies_to_apply():
        if commits(store.get_service(study.service).value.spec) is not None:
            continue
        if active_rollout(store, study.service) is None or _rollout_of(store, study) is not None:
            _apply(store, study, version, now)


def _apply(store: Store, study: Study, version: int, now: datetime) -> None:
    found = study.recommendation
    assert found is not None, "only studies with an improvement wait to be applied"
    spec = store.get_service(study.service).value.spec
    try:
        canary = (
            _rollout_of(store, study)
            or start_rollout(
                store,
                service=study.service,
                config=found.config,
                replicas=found.fleet.replicas,
                study_id=study.study_id,
                actor="controller",
                now=now,
            ).canary
        )
        reason = f"{canary} is rolled out"
    except (Conflict, InvalidInput) as error:
        if active_rollout(store, study.service) is not None or active_ab_test(store, study.service) is not None:
            return  # wait for the end of what is under way
        described = with_alternatives(store, spec, study.study_id)
        canary, reason = revision_of(described, found.config, now=now).revision_id, f"not rolled out: {error}"
    applied = study.evolve(recommendation=found.evolve(applied_revision=canary))
    event = Event(
        at=now,
        actor="controller",
        action="study.applied",
        subject=f"study/{study.study_id}",
        service=study.service,
        reason=reason,
    )
    store.save_study(applied, version, events=[event])


def _rollout_of(store: Store, study: Study) -> RevisionId | None:
    rollouts = store.list_rollouts(study.service, limit=20)
    return next((rollout.canary for rollout, _ in rollouts if rollout.study_id == study.study_id), None)


def reap_trials(store: Store, fleet: Fleet, engines: Sequence[Engine], *, claims: ClaimWatch) -> None:
    """Stop and forget trial engines that no worker looks after any more. Those of a live claim are never touched."""
    claims.forget_others({study for engine in engines if (study := _study_of(engine)) is not None})
    for engine in engines:
        study_id = _study_of(engine)
        if study_id is None or _is_looked_after(store, study_id, engine, claims):
            continue
        _remove(fleet, engine)


def reap_shadows(store: Store, fleet: Fleet, engines: Sequence[Engine], *, now: datetime) -> None:
    """Stop and forget shadows whose replay is over or lost its worker; say of lost replays that they are."""
    rows = [row for row in store.list_schedules() if row.value.replay_run is not None]
    for schedule, version in rows:
        if schedule.replay_run is not None and schedule.replay_run.is_lost(now):
            lost = _event(schedule, "replay.lost", f"worker {schedule.replay_run.worker} died; not run again", now)
            store.save_schedule(schedule.evolve(replay_run=None), version, events=[lost])
    held = {s.replay_run.engine_id for s, _ in rows if s.replay_run is not None and not s.replay_run.is_lost(now)}
    for engine in engines:
        if isinstance(engine.spec.owner, ReplayOwner) and engine.spec.engine_id not in held:
            _remove(fleet, engine)


def _remove(fleet: Fleet, engine: Engine) -> None:
    if engine.state.is_over:
        fleet.forget(engine.spec.engine_id)
    else:
        _stop(fleet, engine)


def _stop(fleet: Fleet, engine: Engine) -> None:
    try:
        fleet.stop(engine.spec.engine_id, drain_s=0)
    except NotFound:  # its worker was alive after all, and faster
        return


def _study_of(engine: Engine) -> StudyId | None:
    return engine.spec.owner.study_id if isinstance(engine.spec.owner, TrialOwner) else None


def _is_looked_after(store: Store, study_id: StudyId, engine: Engine, claims: ClaimWatch) -> bool:
    alive = claims.living(study_id, store.study_claims(study_id))
    if not alive or store.get_study(study_id).value.state in STUDY_FINAL:
        return False
    trials = (trial for trial, _ in store.list_trials(study_id) if owner(trial) == engine.spec.owner)
    trial = next(trials, None)
    if trial is None:
        return True
    # A trial is saved as running before its engine starts, and as finished after the engine is gone.
    running_here = trial.state is TrialState.RUNNING and engine.spec.engine_id in engine_ids(trial)
    return running_here and trial.worker in alive


def _actor(schedule: Schedule) -> str:
    return f"schedule/{schedule.spec.name}"


def _event(schedule: Schedule, action: str, reason: str, now: datetime) -> Event:
    return Event(
        at=now,
        actor=_actor(schedule),
        action=action,
        subject=f"schedule/{schedule.service}/{schedule.spec.name}",
        service=schedule.service,
        reason=reason,
    )
