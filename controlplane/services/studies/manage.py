"""What people do with studies: create, pause, resume, abort, and apply what came out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from controlplane.domain.base import RevisionId, ServiceName, StudyId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.event import Event
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import STUDY_FINAL, EarlierCapacity, Study, StudyState, TrialState, WarmStart
from controlplane.domain.workload import Workload
from controlplane.ports.store import Store
from controlplane.reading.problems import describe
from controlplane.services.answers import prompts_of
from controlplane.services.rollouts.manage import start_rollout
from controlplane.services.studies.asked_adapters import with_adapters
from controlplane.services.studies.commit import commits
from controlplane.services.studies.extend import retry_study
from controlplane.services.studies.variants import with_variants

_ACTIONS = {
    StudyState.PAUSED: "study.paused",
    StudyState.PENDING: "study.resumed",
    StudyState.RUNNING: "study.resumed",
    StudyState.ABORTED: "study.aborted",
}


def create_study(
    store: Store,
    *,
    service: ServiceName,
    actor: str,
    now: datetime,
    apply_when_done: bool = False,
    overrides: Mapping[str, Any] | None = None,
    warm_start: StudyId | None = None,
    workload: Workload | None = None,
) -> Study:
    """Save and return a pending study of a service; a tuner worker takes it up.

    `warm_start` names an earlier study of the service whose capacities are a prior of the search.
    `overrides` are fields of the service's tuning options for this study only, e.g. `{"budget": {"engine_starts": 6}}`.
    `workload` is the traffic it tunes for, instead of the service's.
    Raises NotFound for an unknown service, InvalidInput for unknown flags, a contradictory space, a limit no request
    can meet or a budget too small to compare anything.
    """
    found = store.get_service(service).value
    spec = _overridden(found.spec, overrides or {})
    spec = spec if workload is None else spec.evolve(workload=workload)
    baseline = _serving(store, found)
    spec = with_adapters(store, found, with_variants(store, spec), baseline)
    # numpy and the compiled twin: only where a study is made
    from controlplane.services.studies.calibrate_here import twin_note
    from tuner.answer.plan import plan_of

    check_study(spec, baseline)
    earlier = None if warm_start is None else _earlier(store, warm_start, service)
    study = Study(
        study_id=StudyId(f"{service}-{store.next_number(f'study/{service}')}"),
        service=service,
        spec=spec,
        baseline=baseline,
        state=StudyState.PENDING,
        apply_when_done=apply_when_done,
        created_at=now,
        created_by=actor,
        engine_version=spec.engine.version,
        warm_start=earlier,
        plan=plan_of(spec, twin=twin_note(spec)),
    )
    store.save_study(study, 0, events=(_event(study, "study.created", actor, now),))
    return study


def check_study(spec: ServiceSpec, baseline: EngineConfig) -> None:
    """Refuse what can be known to be hopeless before a GPU is spent. Raises InvalidInput."""
    # Optuna, scipy and the compiled twin: where a study is made, not in every process that lists them
    from controlplane.services.studies.search import check_baseline, feasible_points
    from tuner.search.search import check_strategy
    from tuner.space.first_tier import space_for

    _check_budget(spec, baseline)
    ceiling = spec.slos.max_usd_per_hour
    if ceiling is not None and ceiling < spec.gpus.price_usd_per_gpu_hour:
        raise InvalidInput(
            f"max_usd_per_hour {ceiling:g} cannot be kept",
            why=f"one {spec.gpus.type} alone costs {spec.gpus.price_usd_per_gpu_hour:g} per hour",
        )
    for slo in spec.slos.latency:
        if slo.limit_ms < 1:
            raise InvalidInput(f"{slo} cannot be met", why="no engine answers within a millisecond")
    check_strategy(spec.tuning.strategy)
    prompts_of(spec)
    check_baseline(spec, baseline)
    feasible_points(spec, space_for(spec, baseline))


def _check_budget(spec: ServiceSpec, baseline: EngineConfig) -> None:
    """Refuse a budget that cannot hold baseline, one candidate and the confirmation, however short they turn out."""
    from tuner.answer.plan import plan_of  # brings the search along
    from tuner.answer.policy import MIN_STARTS, least_starts

    budget, levels, least = spec.tuning.budget, spec.tuning.levels, least_starts(spec)
    needed = "baseline, one candidate, and both again to confirm what was found"
    if budget.engine_starts < least:
        checks = spec.tuning.confirm_fleet
        raise InvalidInput(
            f"a budget of {budget.engine_starts} engine starts is too small",
            why=f"{needed}, and the fleet's check" if checks else needed,
            allowed=f"{least} or more" + (f"; {MIN_STARTS} with `tuning.confirm_fleet: false`" if checks else ""),
        )
    trial_s = (levels.warmup_s + levels.min_s) / spec.engine.time_lapse
    at_least = f"{needed}, each at least one level of {trial_s:g} s"
    unhurried = spec.tuning.evolve(budget=budget.evolve(wall_clock_s=None))
    expected_s = plan_of(spec.evolve(tuning=unhurried)).expected_s
    gpu_hours = trial_s * (MIN_STARTS // 2) * (baseline.gpus_per_replica + 1) / 3600
    if budget.gpu_hours is not None and budget.gpu_hours < gpu_hours:
        expected = expected_s * baseline.gpus_per_replica / 3600
        raise InvalidInput(
            f"a budget of {budget.gpu_hours:g} GPU-hours is too small",
            why=at_least,
            allowed=f"about {max(expected, gpu_hours):.2g}, as its plan expects; more than {gpu_hours:.2g} in any case",
        )
    wall_s = trial_s * MIN_STARTS / 2  # two workers at best: nothing is confirmed before it was found
    if budget.wall_clock_s is not None and budget.wall_clock_s < wall_s:
        raise InvalidInput(
            f"a budget of {budget.wall_clock_s:g} s is too small",
            why=at_least,
            allowed=f"about {max(expected_s, wall_s):.0f} s, as its plan expects; more than {wall_s:g} s in any case",
        )


def check_resumable(study: Study, spec: ServiceSpec) -> None:
    """Refuse to go on with a study on what it was not begun on. Raises Conflict."""
    was, now = _measured_on(study.spec), _measured_on(spec)
    changed = [f"{name} {was[name]}, now {now[name]}" for name in was if was[name] != now[name]]
    if changed:
        raise Conflict(
            f"study {study.study_id} cannot be resumed",
            why=f"its capacities were measured on something else: {'; '.join(changed)}",
            allowed=f"a new study with the old one as a prior: `fleetune tune --warm-start {study.study_id}`",
        )


def _measured_on(spec: ServiceSpec) -> Mapping[str, str]:
    return {
        "engine": spec.engine.kind.value,
        "engine version": str(spec.engine.version),
        "GPU": spec.gpus.type,
        "model": spec.model.path,
    }


def _is_refuted(study: Study) -> bool:
    return any(outcome.is_refuted for outcome in study.outcomes)


def _earlier(store: Store, study_id: StudyId, service: ServiceName) -> WarmStart:
    """Return what a study measured, of each configuration the last, without what live traffic refuted."""
    study = store.get_study(study_id).value
    if study.service != service:
        raise InvalidInput(f"study {study_id} is no prior for {service}", why="it is another service's")
    refuted = study.recommendation.config if study.recommendation and _is_refuted(study) else None
    found = {
        trial.config.content_hash(): EarlierCapacity(config=trial.config, rps=trial.capacity.rps)
        for trial, _ in store.list_trials(study_id)
        if trial.state is TrialState.FEASIBLE and trial.capacity is not None and trial.capacity.rps > 0
        if trial.config != refuted
    }
    if not found:
        raise InvalidInput(f"study {study_id} is no prior", why="it measured no capacity")
    return WarmStart(study_id=study_id, capacities=tuple(found.values()))


def pause_study(store: Store, study_id: StudyId, *, actor: str, reason: str = "", now: datetime) -> Study:
    """Let the running trial finish and start no other. Raises NotFound, Conflict when the study is over."""
    return _change(store, study_id, StudyState.PAUSED, actor=actor, reason=reason, now=now)


def resume_study(store: Store, study_id: StudyId, *, actor: str, reason: str = "", now: datetime) -> Study:
    """Let a worker take the study up again: a paused one, or one that failed, whose broken trials are tried anew.

    Raises NotFound, Conflict when it is neither.
    """
    study = store.get_study(study_id).value
    if study.state not in (StudyState.PAUSED, StudyState.FAILED):
        raise Conflict(f"study {study_id} is {study.state}", why="only a paused or failed study can be resumed")
    for service, _ in store.list_services():
        if service.name == study.service:
            check_resumable(study, service.spec)
    if study.state is StudyState.FAILED:
        return retry_study(store, study_id, actor=actor, reason=reason, now=now)
    held = bool(store.study_claims(study_id))  # a worker is still finishing the last trial and goes on
    state = StudyState.RUNNING if held else StudyState.PENDING
    return _change(store, study_id, state, actor=actor, reason=reason, now=now)


def abort_study(store: Store, study_id: StudyId, *, actor: str, reason: str = "", now: datetime) -> Study:
    """End a study now: its engine is stopped within seconds. Raises NotFound, Conflict when it is over."""
    return _change(store, study_id, StudyState.ABORTED, actor=actor, reason=reason, now=now)


def apply_recommendation(store: Store, study_id: StudyId, *, actor: str, now: datetime) -> Rollout:
    """Start the rollout of what a study recommends.

    Raises NotFound, Conflict when there is no improvement to apply, it was applied before, a rollout is under way, or
    the service's manifests are committed for somebody else to apply.
    """
    study, version = store.get_study(study_id)
    if (where := commits(store.get_service(study.service).value.spec)) is not None:
        raise Conflict(
            f"service {study.service} is not rolled out here",
            why=f"what is recommended for it goes to {where.branch} of {where.repository}",
            allowed=f"fleetune recommendation commit {study_id}",
        )
    found = study.recommendation
    if found is None or not found.improvement:
        why = "it found no improvement" if found else f"it is {study.state}"
        raise Conflict(f"study {study_id} has nothing to apply", why=why)
    if found.applied_revision is not None:
        raise Conflict(f"study {study_id} was applied already", why=f"as revision {found.applied_revision}")
    rollout = start_rollout(
        store,
        service=study.service,
        config=found.config,
        replicas=found.fleet.replicas,
        study_id=study_id,
        actor=actor,
        now=now,
    )
    applied = found.evolve(applied_revision=RevisionId(rollout.canary))
    event = _event(study, "study.applied", actor, now, f"rollout {rollout.rollout_id}")
    store.save_study(study.evolve(recommendation=applied), version, events=(event,))
    return rollout


def _overridden(spec: ServiceSpec, overrides: Mapping[str, Any]) -> ServiceSpec:
    try:
        return spec.evolve(tuning=_merged(spec.tuning.model_dump(mode="json"), overrides))
    except ValidationError as error:
        raise InvalidInput("these overrides cannot be used", why=describe(error, ServiceSpec)) from error


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay changes over nested mappings; a search space is replaced as a whole."""
    merged = dict(base)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(base.get(name), Mapping) and name != "space"
        merged[name] = _merged(base[name], value) if nested else value
    return merged


def _serving(store: Store, service: Service) -> EngineConfig:
    """Return what serves today: the stable revision's flags, else the spec's own."""
    return service.spec.baseline if service.stable is None else store.get_revision(service.stable).config


def _change(store: Store, study_id: StudyId, state: StudyState, *, actor: str, reason: str, now: datetime) -> Study:
    study, version = store.get_study(study_id)
    if study.state in STUDY_FINAL:
        raise Conflict(f"study {study_id} is over", why=f"it is {study.state}")
    finished = now if state in STUDY_FINAL else None
    changed = study.evolve(state=state, reason=reason or None, finished_at=finished)
    store.save_study(changed, version, events=(_event(study, _ACTIONS[state], actor, now, reason),))
    return changed


def _event(study: Study, action: str, actor: str, now: datetime, reason: str = "") -> Event:
    return Event(
        at=now,
        actor=actor,
        action=action,
        subject=f"study/{study.study_id}",
        service=study.service,
        reason=reason,
    )
