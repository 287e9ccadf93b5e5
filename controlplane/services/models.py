"""What people and the controller do with the registry: versions, aliases, and what became of each version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.base import RolloutId, ServiceName
from controlplane.domain.errors import Conflict, InvalidInput, NotFound, StaleVersion, Unavailable
from controlplane.domain.event import Event
from controlplane.domain.models import STABLE, ModelVersion, Outcome, RegisteredModel, Variant
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.ports.store import Store, Versioned
from controlplane.services.fleet.serving import describe_service
from controlplane.services.rollouts.manage import active_rollout
from controlplane.services.rollouts.shares import active_ab_test

_NAMED = 10
_LOOK_AT = 3  # rollouts per service: one at a time is under way, so the last few hold all that just ended


class NewVersion(NamedTuple):
    """What a version is made of."""

    source: str
    digest: str | None = None
    variants: tuple[Variant, ...] = ()
    quality: Mapping[str, float] = {}
    note: str = ""


def register_version(store: Store, name: str, new: NewVersion, *, actor: str, now: datetime) -> ModelVersion:
    """Add a version to a model, which is made by its first.

    Raises Conflict when the source is a version already, or (StaleVersion) when somebody else saved in between.
    """
    found = _or_new(store, name)
    version = ModelVersion(
        number=max((known.number for known in found.value.versions), default=0) + 1,
        registered_at=now,
        registered_by=actor,
        **new._asdict(),
    )
    after = found.value.with_version(version)
    event = _event(after, "model.registered", f"version {version.number}: {version.source}", actor=actor, now=now)
    store.save_model(after, found.version, events=[event])
    return version


def known_model(store: Store, name: str) -> Versioned[RegisteredModel]:
    """Return a registered model. Raises NotFound with the names that there are."""
    try:
        return store.get_model(name)
    except NotFound as error:
        known = sorted(row.value.name for row in store.list_models())
        said = ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
        raise NotFound(str(error), allowed=said or "`fleetune model register` makes the first") from error


def move_alias(
    store: Store, name: str, alias: str, reference: str, *, seen: int | None, actor: str, now: datetime
) -> RegisteredModel:
    """Point an alias to a version. `seen` is where its mover saw it point, None for nowhere.

    Raises NotFound for an unknown model or version, Conflict when it points elsewhere by now: of two people who move
    it at once one is told. Who changes something else of the model meanwhile is in nobody's way.
    """
    while True:
        model, guard = known_model(store, name)
        present = model.aliases.get(alias)
        version = model.find(reference).number
        if (None if present is None else present.version) != seen:
            raise _moved(model, alias)
        after = model.moved(alias, version, by=actor, at=now)
        event = _event(after, "model.alias_moved", f"{alias}: {seen or 'nowhere'} → {version}", actor=actor, now=now)
        try:
            store.save_model(after, guard, events=[event])
        except StaleVersion:  # somebody's save went through: the next look says whether it was this alias
            continue
        return after


def serve_version(
    store: Store,
    service: ServiceName,
    name: str,
    reference: str,
    *,
    variant: str | None,
    actor: str,
    now: datetime,
) -> Service:
    """Give a service a registered version to serve: its canary starts as for any changed description.

    Raises NotFound for an unknown service, model, version or variant, Conflict during a rollout and for a service that
    follows an alias.
    """
    source = known_model(store, name).value.find(reference).source_of(variant)
    spec = store.get_service(service).value.spec
    if spec.followed is not None:
        raise Conflict(
            f"{service} follows {spec.followed}", allowed="move the alias, or take `follows` or `mlflow` away"
        )
    return _serve(store, spec, source, actor=actor, now=now)


def follow_aliases(store: Store, *, now: datetime) -> None:
    """Let every service that follows an alias serve the version it points to, once its last rollout is over.

    A version is tried once: one that was rolled back stays what the description says, so nothing starts it again.
    Raises Unavailable with what kept services from it; the others were served all the same.
    """
    problems = [problem for row in store.list_services() if (problem := _followed(store, row.value, now)) is not None]
    if problems:
        raise Unavailable("a service cannot follow its alias", why="; ".join(problems))


def _followed(store: Store, service: Service, now: datetime) -> str | None:
    """Make one service follow its alias; return what kept it from that."""
    if service.spec.followed is None or service.stopped:
        return None
    if active_rollout(store, service.name) is not None or active_ab_test(store, service.name) is not None:
        return None
    name, _, alias = service.spec.followed.partition("@")
    try:
        version = known_model(store, name).value.find(alias)
        if service.spec.model.path not in version.sources:
            _serve(store, service.spec, version.source, actor="controller", now=now)
    except (Conflict, InvalidInput, NotFound) as error:
        return f"{service.name}: {error}"
    return None


def _serve(store: Store, spec: ServiceSpec, source: str, *, actor: str, now: datetime) -> Service:
    return describe_service(store, spec.evolve(model=spec.model.evolve(path=source)), actor=actor, now=now)


def last_good(store: Store, service: ServiceName) -> Revision:
    """Return the revision that served before the present one, which is a halted promotion's canary while there is one.

    Raises NotFound when none did.
    """
    active = active_rollout(store, service)
    if active is not None and active.value.state is RolloutState.HALTED and active.value.stable is not None:
        return store.get_revision(active.value.stable)
    stable = store.get_service(service).value.stable
    for rollout, _ in store.list_rollouts(service):
        if rollout.canary == stable and rollout.state is RolloutState.PROMOTED and rollout.stable is not None:
            return store.get_revision(rollout.stable)
    allowed = (
        "" if active is None else f"fleetune rollout abort {active.value.rollout_id}, which is {active.value.state}"
    )
    why = "nothing was promoted over another"
    raise NotFound(f"{service} has no earlier revision to go back to", why=why, allowed=allowed)


def lineage(store: Store, name: str) -> Sequence[Outcome]:
    """Return what became of every version: its revisions, the study they came from, their rollouts; newest first.

    Raises NotFound.
    """
    model = known_model(store, name).value
    found: list[Outcome] = []
    for service, _ in store.list_services():
        rollouts = [row.value for row in store.list_rollouts(service.name, limit=1000)]
        for revision in store.list_revisions(service.name):
            version = model.of_source(revision.model.path)
            if version is not None:
                mine = [each for each in rollouts if each.canary == revision.revision_id]
                found += _outcomes(version, revision, mine or [None])
    return found


def note_promotions(store: Store, *, noted: set[RolloutId], now: datetime) -> None:
    """Let `stable` follow what was promoted, and say of what was not why. `noted` spares asking again and again.

    An alias that somebody moved after the promotion stays where it is.
    """
    for service, _ in store.list_services():
        for rollout, _ in store.list_rollouts(service.name, limit=_LOOK_AT):
            if rollout.state in ROLLOUT_FINAL and rollout.rollout_id not in noted:
                _note(store, rollout, now)
                noted.add(rollout.rollout_id)


def _note(store: Store, rollout: Rollout, now: datetime) -> None:
    try:
        source = store.get_revision(rollout.canary).model.path
    except NotFound:
        return
    for model, guard in store.list_models():
        version = model.of_source(source)
        if version is None or rollout.state is not RolloutState.PROMOTED:
            continue
        alias, ended_at = model.aliases.get(STABLE), rollout.finished_at or rollout.updated_at
        if alias is not None and (alias.version == version.number or alias.moved_at > ended_at):
            continue
        reason = f"{STABLE}: {'nowhere' if alias is None else alias.version} → {version.number}, {rollout.rollout_id}"
        after = model.moved(STABLE, version.number, by="controller", at=now)
        event = _event(after, "model.alias_moved", reason, actor="controller", now=now)
        store.save_model(after, guard, events=[event])


def _or_new(store: Store, name: str) -> Versioned[RegisteredModel]:
    try:
        return store.get_model(name)
    except NotFound:
        return Versioned(RegisteredModel(name=name), 0)


def _outcomes(version: ModelVersion, revision: Revision, rollouts: Sequence[Rollout | None]) -> list[Outcome]:
    return [
        Outcome(
            version=version.number,
            service=revision.service,
            revision=revision.revision_id,
            study=revision.study_id,
            rollout=None if rollout is None else rollout.rollout_id,
            state=None if rollout is None else rollout.state,
            reason=None if rollout is None else rollout.reason,
        )
        for rollout in rollouts
    ]


def _moved(model: RegisteredModel, alias: str) -> Conflict:
    present = model.aliases.get(alias)
    where = "points nowhere" if present is None else f"was moved to version {present.version} by {present.moved_by}"
    return Conflict(f"the alias {alias} of {model.name} is not where you saw it", why=where, allowed="look again")


def _event(model: RegisteredModel, action: str, reason: str, *, actor: str, now: datetime) -> Event:
    return Event(at=now, actor=actor, action=action, subject=f"model/{model.name}", reason=reason)
