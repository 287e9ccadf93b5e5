"""What people and schedules do with rollouts: start, pause, resume, promote, abort, halt, roll back.

Each function saves what is wanted and returns; the controller's next pass makes it true.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.revision import Revision, revision_id
from controlplane.domain.rollouts.patience import check_patience, patient
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState, StepRecord
from controlplane.domain.rollouts.rollout_events import early_users_events, events_between
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.rollouts.rollout_policy import move
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Former, Service
from controlplane.ports.store import Store, Versioned
from controlplane.services.capacities import keep_revision
from controlplane.services.rollouts.shares import (
    active_ab_test,
    refuse_during_ab_test,
    refuse_on_shared_gpus,
    stop_ab_test,
)
from tuner.space.knobs.checks import check_flags

_NAMED = 5  # of what there is, in a message


def start_rollout(  # noqa: PLR0913 - all by keyword: what to roll out, who asks, and why
    store: Store,
    *,
    service: ServiceName,
    config: EngineConfig,
    replicas: int,
    options: RolloutOptions | None = None,
    study_id: StudyId | None = None,
    actor: str,
    reason: str = "",
    now: datetime,
) -> Rollout:
    """Save a new rollout of `config` (all flags of one replica); `options` default to the service's own.

    Raises NotFound for an unknown service, InvalidInput for flags its vLLM version does not know, when the replicas
    cannot fit its GPUs or a step of the options may be over before its hangs show, Conflict when a rollout is under
    way, the service is stopped, or this very revision is stable already.
    """
    found = store.get_service(service).value
    if options is not None:
        check_patience(options, found.spec)
    spec = with_alternatives(store, found.spec, study_id)
    check_flags(without_emulator_flags(config), spec.served_by(config).engine)
    revision = revision_of(spec, config, now=now, study_id=study_id)
    return start(store, found, revision, replicas=replicas, options=options, actor=actor, reason=reason, now=now)


def start(  # noqa: PLR0913 - what to roll out and how, who asks, and why
    store: Store,
    service: Service,
    revision: Revision,
    *,
    replicas: int,
    options: RolloutOptions | None = None,
    at_once: bool = False,
    actor: str,
    reason: str = "",
    now: datetime,
) -> Rollout:
    """Save a new rollout of a revision. Raises as `start_rollout`."""
    _check_start(store, service, revision, replicas)
    rollout = Rollout(
        rollout_id=RolloutId(f"{service.name}-r{store.next_number(f'rollout/{service.name}')}"),
        service=service.name,
        canary=revision.revision_id,
        stable=service.stable if service.stable_replicas else None,  # what runs nowhere is nothing to compare with
        canary_replicas=replicas,
        state=RolloutState.PENDING,
        options=patient(options or service.spec.rollout, service.spec).judgeable(),
        at_once=at_once,
        study_id=revision.study_id,
        reason=reason or "canary replicas are to be started",
        created_at=now,
        updated_at=now,
    )
    keep_revision(store, revision, service.spec)
    # The store keeps a service from having two unfinished rollouts, so this save is the start, all of it.
    events = [*events_between(None, rollout, actor=actor, now=now), *early_users_events(rollout, actor=actor, now=now)]
    store.save_rollout(rollout, 0, events=events)
    return rollout


def pause_rollout(store: Store, rollout_id: RolloutId, *, actor: str, reason: str = "", now: datetime) -> Rollout:
    """Keep the weight and judge nothing; guard rails stay on. Raises NotFound, Conflict."""
    return _act(store, rollout_id, RolloutState.PAUSED, actor=actor, reason=reason or "paused", now=now)


def resume_rollout(store: Store, rollout_id: RolloutId, *, actor: str, reason: str = "", now: datetime) -> Rollout:
    """Go on with a paused rollout (its step begins anew) or a halted promotion. Raises NotFound, Conflict.

    One that was paused because its canary answers otherwise than stable goes on with that accepted.
    """
    rollout = store.get_rollout(rollout_id).value
    if rollout.state not in (RolloutState.PAUSED, RolloutState.HALTED):
        raise Conflict(f"{rollout_id} cannot be resumed", why=f"it is {rollout.state}", allowed="paused or halted")
    said = reason or "resumed"
    if rollout.state is RolloutState.HALTED:
        tolerated = {"tolerated_crashes": rollout.canary_crashes}
        return _act(store, rollout_id, RolloutState.PROMOTING, actor=actor, reason=said, now=now, **tolerated)
    state = RolloutState.PROGRESSING if rollout.steps else RolloutState.PENDING
    accepted = rollout.answers_accepted or (rollout.answers is not None and not rollout.answers.passed)
    again = {"steps": _step_anew(rollout, now), "short_since": None, "answers_accepted": accepted}
    return _act(store, rollout_id, state, actor=actor, reason=said, now=now, **again)


def promote_rollout(store: Store, rollout_id: RolloutId, *, actor: str, reason: str = "", now: datetime) -> Rollout:
    """Promote without waiting for further verdicts: a person's decision. Raises NotFound, Conflict."""
    rollout = store.get_rollout(rollout_id).value
    if rollout.state in (RolloutState.PENDING, RolloutState.PAUSED) and not rollout.steps:
        raise Conflict(f"{rollout_id} cannot be promoted", why="no step has begun", allowed="after step 1 began")
    if rollout.state is RolloutState.HALTED:
        raise Conflict(f"{rollout_id} cannot be promoted", why="its promotion is halted", allowed="resume")
    return _act(store, rollout_id, RolloutState.PROMOTING, actor=actor, reason=reason or "promoted by hand", now=now)


def abort_rollout(store: Store, rollout_id: RolloutId, *, actor: str, reason: str = "", now: datetime) -> Rollout:
    """Return all traffic to stable. Raises NotFound, Conflict once promotion has begun."""
    rollout = store.get_rollout(rollout_id).value
    if rollout.state in (RolloutState.PROMOTING, RolloutState.HALTED):
        raise Conflict(
            f"{rollout_id} cannot be aborted",
            why="a promotion that has begun is halted, never aborted",
            allowed="halt, resume, or roll back to an earlier revision",
        )
    return _act(store, rollout_id, RolloutState.ABORTING, actor=actor, reason=reason or "aborted by hand", now=now)


def halt_rollout(store: Store, rollout_id: RolloutId, *, actor: str, reason: str = "", now: datetime) -> Rollout:
    """Stop a promotion midway: nothing more is started or stopped for it. Raises NotFound, Conflict."""
    return _act(store, rollout_id, RolloutState.HALTED, actor=actor, reason=reason or "halted by hand", now=now)


def roll_back(
    store: Store,
    *,
    service: ServiceName,
    revision: RevisionId,
    replicas: int | None = None,
    options: RolloutOptions | None = None,
    at_once: bool = False,
    actor: str,
    now: datetime,
) -> Rollout:
    """Start a new rollout to an earlier revision; `replicas` default to what it was last promoted with.

    `at_once`: it gets all traffic as soon as its replicas are ready, unjudged. What is left is not kept.
    A halted promotion is counted as done first: its canary serves. An A/B test is stopped first.
    Raises NotFound, InvalidInput, Conflict.
    """
    earlier = _revision_of(store, service, revision)
    _leave_halted(store, service, actor=actor, now=now)
    testing = active_ab_test(store, service)
    if testing is not None:
        stop_ab_test(store, testing.value.test_id, actor=actor, reason="left by a roll back", now=now)
    found = store.get_service(service).value
    wanted = replicas or _last_replicas(store, found, revision)
    given = (options or found.spec.rollout).evolve(keep_former_s=0)
    return start(store, found, earlier, replicas=wanted, options=given, at_once=at_once, actor=actor, now=now)


def _revision_of(store: Store, service: ServiceName, revision: RevisionId) -> Revision:
    """Raises NotFound with the latest revisions that there are, InvalidInput for another service's."""
    known = ", ".join(each.revision_id for each in store.list_revisions(service)[:_NAMED])
    try:
        found = store.get_revision(revision)
    except NotFound as error:
        raise NotFound(str(error), allowed=known) from error
    if found.service != service:
        why = f"it belongs to {found.service}"
        raise InvalidInput(f"{revision} is no revision of {service}", why=why, allowed=known)
    return found


def with_alternatives(store: Store, spec: ServiceSpec, study_id: StudyId | None) -> ServiceSpec:
    """Return the service with the alternatives that its study tried, which may be the registry's variants.

    Of a study that is not there any more only what the service itself says is known.
    """
    if study_id is None:
        return spec
    try:
        tried = store.get_study(study_id).value.spec.alternatives
    except NotFound:
        return spec
    return spec.evolve(alternatives={**tried, **spec.alternatives})


def active_rollout(store: Store, service: ServiceName) -> Versioned[Rollout] | None:
    """Return the service's rollout under way. There is at most one, and it is among the newest."""
    return next((row for row in store.list_rollouts(service, limit=5) if row.value.state not in ROLLOUT_FINAL), None)


def revision_of(spec: ServiceSpec, config: EngineConfig, *, now: datetime, study_id: StudyId | None = None) -> Revision:
    """Return the revision that serves the spec's model with these flags. Raises InvalidInput as `served_by`."""
    served = spec.served_by(config)
    return Revision(
        revision_id=revision_id(spec.service, served.model, served.engine, config),
        service=spec.service,
        model=served.model,
        engine=served.engine,
        config=config,
        created_at=now,
        study_id=study_id,
    )


def promoted(service: Service, rollout: Rollout, now: datetime) -> Service:
    """Return the service with the rollout's canary as its stable revision."""
    changes = {"stable": rollout.canary, "stable_replicas": rollout.canary_replicas}
    if all(getattr(service, name) == value for name, value in changes.items()):
        return service
    return service.evolve(**changes, former=_former(service, rollout, now), updated_at=now)


def _former(service: Service, rollout: Rollout, now: datetime) -> Former | None:
    """Return the present stable as what is kept for a roll-back; None where none is."""
    keep_s, stable, replicas = rollout.options.keep_former_s, service.stable, service.stable_replicas
    if not keep_s or stable in (None, rollout.canary) or not replicas:
        return None
    return Former(revision=stable, replicas=replicas, until=now + timedelta(seconds=keep_s))


def refuse_beside_rollout(store: Store, service: ServiceName) -> None:
    """Raise Conflict while a rollout of the service is under way."""
    active = active_rollout(store, service)
    if active is not None:
        why = f"{active.value.rollout_id} is {active.value.state}"
        raise Conflict(f"{service} has a rollout under way", why=why, allowed="wait for it, or abort it")


def _check_start(store: Store, service: Service, revision: Revision, replicas: int) -> None:
    refuse_beside_rollout(store, service.name)
    refuse_during_ab_test(store, service.name, "rolled out to")
    refuse_on_shared_gpus(service, "rolled out to")
    if service.stopped:
        raise Conflict(f"{service.name} is stopped", allowed="start it first")
    if service.stable == revision.revision_id:
        raise Conflict(f"{revision.revision_id} is stable already", why="it has the same model and flags")
    needed, owned = replicas * revision.config.gpus_per_replica, service.spec.gpus.count
    if replicas < 1 or needed > owned:
        raise InvalidInput(
            f"{replicas} replicas cannot be rolled out", why=f"{needed} GPUs are needed", allowed=f"1 to {owned} GPUs"
        )


def _act(
    store: Store, rollout_id: RolloutId, state: RolloutState, *, actor: str, reason: str, now: datetime, **changes: Any
) -> Rollout:
    rollout, version = store.get_rollout(rollout_id)
    after = move(rollout, state, reason=reason, now=now, **changes)
    store.save_rollout(after, version, events=events_between(rollout, after, actor=actor, now=now))
    return after


def _step_anew(rollout: Rollout, now: datetime) -> tuple[StepRecord, ...]:
    """Samples taken while nobody judged are left out, and the step has its whole time again."""
    if rollout.waits_for_replicas:
        return rollout.steps
    return (*rollout.steps[:-1], rollout.steps[-1].evolve(started_at=now, analysis=None))


def _leave_halted(store: Store, service: ServiceName, *, actor: str, now: datetime) -> None:
    active = active_rollout(store, service)
    if active is None or active.value.state is not RolloutState.HALTED:
        return
    found, version = store.get_service(service)
    # The service first: a crash between the two leaves a halted rollout whose canary is stable, which is the truth.
    store.save_service(promoted(found, active.value, now), version)
    reason = "counted as promoted: left by a roll back"
    _act(store, active.value.rollout_id, RolloutState.PROMOTED, actor=actor, reason=reason, now=now)


def _last_replicas(store: Store, service: Service, revision: RevisionId) -> int:
    for rollout, _ in store.list_rollouts(service.name):
        if rollout.canary == revision and rollout.state is RolloutState.PROMOTED:
            return rollout.canary_replicas
    return max(1, service.stable_replicas)
