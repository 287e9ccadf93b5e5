"""Services: register one or change what it promises, scale, stop and start it, and see what it serves now."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from controlplane.domain.base import EngineId, RevisionId, ServiceName, Value
from controlplane.domain.door.routing import ServiceRoute
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.event import Event
from controlplane.domain.masking import revealed
from controlplane.domain.operations.spot import Reclaim
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.patience import check_patience, hangs_show
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Former, Service
from controlplane.domain.words import counted
from controlplane.ports.fleet import FleetView
from controlplane.ports.store import Store, Versioned
from controlplane.services.capacities import keep_revision
from controlplane.services.check_service import check_service
from controlplane.services.fleet.bases import refuse_other_base
from controlplane.services.fleet.reclaims import read_reclaims
from controlplane.services.fleet.resting import read_asleep, turns_of
from controlplane.services.fleet.unknown_names import unknown_names
from controlplane.services.fleet.wanted import wants
from controlplane.services.fleet.world import World, route, service_of
from controlplane.services.rollouts.manage import active_rollout, revision_of, start
from controlplane.services.rollouts.shares import active_ab_test, refuse_during_ab_test, refuse_on_shared_gpus
from controlplane.services.schedules import described_schedules


class ServiceStatus(Value):
    """What one service serves at this moment."""

    service: Service
    rollout: Rollout | None
    desired_replicas: dict[RevisionId, int]
    ready_replicas: dict[RevisionId, int]
    weights_percent: dict[RevisionId, int]
    engines: tuple[Engine, ...]
    warm: tuple[EngineId, ...] = Field(default=(), description="Started, without traffic.")
    asleep: tuple[EngineId, ...] = Field(default=(), description="Of those kept warm.")
    kept: Former | None = Field(default=None, description="Started, without traffic: what a roll-back leads back to.")
    unknown: tuple[str, ...] = Field(default=(), description="What its description names and nobody knows here.")
    reclaimed: dict[EngineId, Reclaim] = Field(
        default_factory=dict, description="What they run on is taken away: they finish, others start elsewhere."
    )


def register_service(store: Store, spec: ServiceSpec, *, actor: str, now: datetime) -> Service:
    """Keep a new service, or give a known one a new description.

    New: its base flags become the stable revision at once, with `initial_replicas`. Known: promises, workload, rollout
    steps and schedules change in place; a change of model path, engine or base flags starts a rollout of the stable
    revision with just these changes. Raises InvalidInput for unknown flags, an unreadable trace, a step of a rollout
    that may be over before its hangs show (but not where that is stored already) and when the name that clients use
    changes; Conflict when it belongs to another service, adapters were made for another model than the new one, or such
    a rollout is needed and one is under way.
    The path of a service that follows an alias is the alias's: a description given again does not change it.
    """
    saved = _saved(store, spec.service)
    spec = revealed(spec, None if saved is None else saved.value.spec)
    _check_steps(spec, None if saved is None else saved.value.spec)
    if saved is not None and spec.followed is not None and spec.followed == saved.value.spec.followed:
        spec = spec.evolve(model=spec.model.evolve(path=saved.value.spec.model.path))
    return describe_service(store, spec, actor=actor, now=now)


def describe_service(store: Store, spec: ServiceSpec, *, actor: str, now: datetime) -> Service:
    """Do as `register_service` with exactly this description."""
    saved = _saved(store, spec.service)
    check_service(spec)
    if saved is None:
        return _first(store, spec, actor=actor, now=now)
    return _changed(store, saved, spec, actor=actor, now=now)


def _check_steps(spec: ServiceSpec, before: ServiceSpec | None) -> None:
    """Hold the steps to the time-outs, unless both are as they were stored: what is served goes on being served."""
    if before is None or (before.rollout.steps, hangs_show(before)) != (spec.rollout.steps, hangs_show(spec)):
        check_patience(spec.rollout, spec)


def _saved(store: Store, name: ServiceName) -> Versioned[Service] | None:
    try:
        return store.get_service(name)
    except NotFound:
        return None


def scale_service(store: Store, name: ServiceName, *, replicas: int, actor: str, now: datetime) -> Service:
    """Run the stable revision with so many replicas. Raises NotFound, InvalidInput, Conflict when others change it."""
    service, version = store.get_service(name)
    _refuse_during_rollout(store, name, "scaled")
    refuse_during_ab_test(store, name, "scaled")
    if replicas > 1:
        refuse_on_shared_gpus(service, "scaled")
    if replicas < 0 or service.stable is None:
        raise InvalidInput(f"{name} cannot run {replicas} replicas", allowed="0 or more of a stable revision")
    options = service.spec.autoscale
    if options.enabled and not options.dry_run and replicas and service.stable_replicas:
        allowed = "autoscale.min_replicas of its description, or 0 replicas"
        raise Conflict(f"{name} cannot be scaled by hand", why="it scales by itself", allowed=allowed)
    scaled = service.evolve(stable_replicas=replicas, updated_at=now)
    event = _event(scaled, "service.scaled", actor=actor, reason=f"{replicas} replicas", now=now)
    store.save_service(scaled, version, events=[event])
    return scaled


def stop_service(store: Store, name: ServiceName, *, stopped: bool, actor: str, now: datetime) -> Service:
    """Scale to nothing and keep the record, or (False) serve again. Raises NotFound, Conflict during a rollout."""
    service, version = store.get_service(name)
    _refuse_during_rollout(store, name, "stopped" if stopped else "started")
    changed = service.evolve(stopped=stopped, updated_at=now)
    event = _event(changed, "service.stopped" if stopped else "service.started", actor=actor, reason="", now=now)
    store.save_service(changed, version, events=[event])
    return changed


def service_status(store: Store, fleet: FleetView, name: ServiceName, *, now: datetime) -> ServiceStatus:
    """Return what a service wants and what is there. Raises NotFound, Unavailable."""
    mine = [engine for engine in fleet.list() if service_of(engine) == name]
    world = World(
        at=now,
        saved=store.get_service(name),
        active=active_rollout(store, name),
        engines=mine,
        testing=active_ab_test(store, name),
        asleep=read_asleep(store, name),
        turns=turns_of(store, store.get_service(name).value),
        reclaimed=read_reclaims(store),
    )
    desired = {revision: want.replicas for revision, want in wants(world).items() if want.replicas or not want.keep}
    table: ServiceRoute = route(world)
    return ServiceStatus(
        service=world.service,
        rollout=world.rollout,
        desired_replicas=desired,
        ready_replicas={revision: len(world.ready(revision)) for revision in desired},
        weights_percent={each.revision: each.weight_percent for each in table.revisions},
        engines=tuple(mine),
        warm=tuple(sorted(world.resting)),
        asleep=tuple(sorted(world.asleep)),
        kept=world.former,
        unknown=unknown_names(store, world.service.spec),
        reclaimed={e.spec.engine_id: world.reclaimed[e.spec.engine_id] for e in mine if world.is_reclaimed(e)},
    )


def _first(store: Store, spec: ServiceSpec, *, actor: str, now: datetime) -> Service:
    base = revision_of(spec, spec.baseline, now=now)
    keep_revision(store, base, spec)
    service = Service(
        name=spec.service,
        spec=spec,
        stable=base.revision_id,
        stable_replicas=spec.initial_replicas,
        updated_at=now,
    )
    reason = f"{base.revision_id} serves with {counted(spec.initial_replicas, 'replica')}"
    event = _event(service, "service.registered", actor=actor, reason=reason, now=now)
    store.save_service(service, 0, schedules=described_schedules(store, spec, now=now), events=[event])
    return service


def _changed(store: Store, saved: Versioned[Service], spec: ServiceSpec, *, actor: str, now: datetime) -> Service:
    before = saved.value
    schedules = described_schedules(store, spec, now=now)
    if spec == before.spec:
        if schedules:  # somebody changed one by hand meanwhile
            store.save_service(before, saved.version, schedules=schedules)
        return before
    if spec.model.name != before.spec.model.name:
        raise InvalidInput(
            f"the model name of {before.name} cannot change",
            why=f"clients ask for '{before.spec.model.name}'",
            allowed="register a service of another name",
        )
    engine_changes = (spec.model, spec.engine) != (before.spec.model, before.spec.engine)
    if spec.model.path != before.spec.model.path:
        refuse_other_base(store, before, spec.model.path)
    if engine_changes:
        _refuse_during_rollout(store, before.name, "given another model, engine or flags")
        refuse_during_ab_test(store, before.name, "given another model, engine or flags")
        _refuse_impossible(store, before, spec)
    _check_sharing(before, spec, engine_changes=engine_changes)
    after = before.evolve(spec=spec, updated_at=now)
    if engine_changes and before.stable is not None:
        described = _described(store, before, after, now).revision_id
        # One that takes turns is stopped here: nobody would see a canary of it.
        after = after.evolve(**{"described" if spec.shares is None else "stable": described})
    event = _event(after, "service.changed", actor=actor, reason="a new description", now=now)
    store.save_service(after, saved.version, schedules=schedules, events=[event])
    # From here on the change is promised: should this process die, the controller's next pass goes on.
    return roll_out_described(store, store.get_service(before.name), actor=actor, now=now)


def _check_sharing(before: Service, spec: ServiceSpec, *, engine_changes: bool) -> None:
    """What decides on which GPUs its engines are, and how one of a pool runs, changes while none runs."""
    pools = [None if each.shares is None else each.shares.pool for each in (before.spec, spec)]
    if before.stopped or (pools[0] == pools[1] and not (engine_changes and pools[1])):
        return
    what = "another pool of GPUs" if pools[0] != pools[1] else "another model, engine or flags"
    why = "its engine would have to move" if pools[0] != pools[1] else f"it takes turns on the GPUs of {pools[1]}"
    raise Conflict(f"{before.name} cannot be given {what} while it serves", why=why, allowed="stop it first")


def roll_out_described(store: Store, saved: Versioned[Service], *, actor: str, now: datetime) -> Service:
    """Start the rollout that a changed description asks for, once: nothing when there is none, or it cannot be now.

    One that cannot ever be is given up, and an event says why.
    """
    service, version = saved
    if service.described is None or service.stopped:
        return service
    active = active_rollout(store, service.name)
    if active is not None and active.value.canary != service.described:
        return service
    reason = ""
    if active is None and service.described != service.stable:
        try:
            revision = store.get_revision(service.described)
            start(store, service, revision, replicas=max(1, service.stable_replicas), actor=actor, now=now)
        except (InvalidInput, NotFound) as error:
            reason = f"{service.described} is not rolled out: {error}"
        except Conflict:  # somebody started another one just now
            return service
    done = service.evolve(described=None)
    events = [_event(done, "service.not_rolled_out", actor=actor, reason=reason, now=now)] if reason else []
    store.save_service(done, version, events=events)
    return done


def _described(store: Store, before: Service, after: Service, now: datetime) -> Revision:
    """Return the revision of the changed model, engine or base flags, with what tuning found, kept in the store."""
    assert before.stable is not None, "what serves nothing has nothing to change"
    stable = store.get_revision(before.stable).config
    revision = revision_of(after.spec, _rebased(stable, before.spec.baseline, after.spec.baseline), now=now)
    return keep_revision(store, revision, after.spec)


def _refuse_impossible(store: Store, before: Service, spec: ServiceSpec) -> None:
    """Raise InvalidInput before anything is saved when what is described can never run on the described GPUs."""
    if before.stable is None:
        return
    config = _rebased(store.get_revision(before.stable).config, before.spec.baseline, spec.baseline)
    needed = max(1, before.stable_replicas) * config.gpus_per_replica
    if needed > spec.gpus.count:
        raise InvalidInput(
            f"{before.name} cannot run as described", why=f"{needed} GPUs are needed", allowed=f"{spec.gpus.count} GPUs"
        )


def _rebased(config: EngineConfig, before: EngineConfig, after: EngineConfig) -> EngineConfig:
    """Return `config` with the differences from `before` to `after` laid over it."""
    removed = {name for name in before.flags if name not in after.flags}
    changed = {name: value for name, value in after.flags.items() if before.flags.get(name) != value}
    kept = {name: value for name, value in config.flags.items() if name not in removed}
    return EngineConfig(flags={**kept, **changed})


def _refuse_during_rollout(store: Store, name: ServiceName, verb: str) -> None:
    active = active_rollout(store, name)
    if active is not None:
        why = f"rollout {active.value.rollout_id} is {active.value.state}"
        raise Conflict(f"{name} cannot be {verb} now", why=why, allowed="wait for it, or abort it")


def _event(service: Service, action: str, *, actor: str, reason: str, now: datetime) -> Event:
    return Event(
        at=now, actor=actor, action=action, subject=f"service/{service.name}", service=service.name, reason=reason
    )
