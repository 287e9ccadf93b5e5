"""How a model of the registry becomes what its catalogue says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.base import ServiceName
from controlplane.domain.catalogue import CatalogueLink, CatalogueModel, CatalogueVersion, OnMove, digest_of, source_of
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.event import Event
from controlplane.domain.models import ModelVersion, Origin, RegisteredModel, SeenAlias, is_alias

ACTOR = "mlflow"


class Mirrored(NamedTuple):
    """The model as it is to be saved, with what is to be said of it."""

    model: RegisteredModel
    events: tuple[Event, ...] = ()


def mirrored(
    model: RegisteredModel, there: CatalogueModel, links: Mapping[ServiceName, CatalogueLink], now: datetime
) -> Mirrored:
    """Return a model with the versions of the catalogue, and with the aliases that moved there moved here.

    `links` are the services that follow it, by name. An alias of the catalogue that stays where it was leaves alone
    what a person here did with ours of that name.
    """
    origin = _origin(model, there, now)
    registered, refused, events = _registered(model, there, now)
    after, seen, moves = _moved(registered, there, origin, now)
    if origin.problem is not None:
        events = [_event(model, "model.followed_again", f"{there.name} of MLflow answers again", now), *events]
    for alias, version in refused.items():
        if origin.refused.get(alias) != version:
            events.append(_event(model, "model.refused", version, now))
    kept = origin.evolve(aliases=seen, refused=refused, problem=None)
    told = _told(model, after, links, now)
    return Mirrored(after.evolve(origin=kept), (*events, *moves, *told))


def unanswered(model: RegisteredModel, there: str, problem: str, now: datetime) -> Mirrored:
    """Return a model whose catalogue cannot be read: said once, until it answers again."""
    origin = _origin(model, CatalogueModel(there), now)
    if origin.problem is not None:
        return Mirrored(model.evolve(origin=origin.evolve(problem=problem)))
    reason = f"{there} of MLflow is not followed for now, serving goes on: {problem}"
    event = _event(model, "model.not_followed", reason, now)
    return Mirrored(model.evolve(origin=origin.evolve(problem=problem)), (event,))


def _origin(model: RegisteredModel, there: CatalogueModel, now: datetime) -> Origin:
    if model.origin is not None and model.origin.model == there.name:
        return model.origin
    return Origin(model=there.name, since=now)


def _registered(
    model: RegisteredModel, there: CatalogueModel, now: datetime
) -> tuple[RegisteredModel, dict[str, str], list[Event]]:
    refused, events = dict[str, str](), list[Event]()
    for version in there.versions:
        if model.of_origin(version.version) is not None:
            continue
        try:
            model, event = _with_version(model, version, now)
            events.append(event)
        except (Conflict, InvalidInput) as error:
            refused[version.version] = f"{there.name} in MLflow: {error}"
    return model, refused, events


def _with_version(model: RegisteredModel, version: CatalogueVersion, now: datetime) -> tuple[RegisteredModel, Event]:
    """Return the model with a version more, or with a known one known as that of the catalogue."""
    source, digest = source_of(version), digest_of(version)
    for known in model.versions:
        if (known.source, known.digest, known.origin) == (source, digest, None):
            others = [each.evolve(origin=version.version) if each is known else each for each in model.versions]
            reason = f"version {known.number} is version {version.version} in MLflow"
            return model.evolve(versions=tuple(others)), _event(model, "model.registered", reason, now)
    number = max((known.number for known in model.versions), default=0) + 1
    made = ModelVersion(
        number=number,
        source=source,
        digest=digest,
        note=version.note[:500],
        origin=version.version,
        registered_at=now,
        registered_by=ACTOR,
    )
    reason = f"version {number}: {source}, version {version.version} in MLflow"
    return model.with_version(made), _event(model, "model.registered", reason, now)


def _moved(
    model: RegisteredModel, there: CatalogueModel, origin: Origin, now: datetime
) -> tuple[RegisteredModel, Mapping[str, SeenAlias], Sequence[Event]]:
    """Return the model with what moved, and the aliases as seen: one on a version not registered is not seen yet."""
    seen, events = dict[str, SeenAlias](), list[Event]()
    for alias, version in sorted(there.aliases.items()):
        before, ours = origin.aliases.get(alias), model.of_origin(version)
        if before is not None and before.version == version:
            seen[alias] = before
            continue
        if ours is None:
            seen |= {} if before is None else {alias: before}
            continue
        seen[alias] = SeenAlias(version=version, since=now)
        if is_alias(alias) and _points(model, alias) != ours.number:
            reason = f"{alias}: {_points(model, alias) or 'nowhere'} → {ours.number}"
            events.append(_event(model, "model.alias_moved", reason, now))
            model = model.moved(alias, ours.number, by=ACTOR, at=now)
    return model, seen, events


def _told(
    before: RegisteredModel, after: RegisteredModel, links: Mapping[ServiceName, CatalogueLink], now: datetime
) -> Sequence[Event]:
    """Return what to say to the services that want to be told only."""
    events = []
    for service, link in links.items():
        number = _points(after, link.alias)
        if link.then is OnMove.TELL and number is not None and number != _points(before, link.alias):
            reason = (
                f"{link.alias} of {link.model} is version {number} now: "
                f"`fleetune model serve {after.name} {number} --service {service}` rolls it out"
            )
            events.append(_event(after, "model.waits", reason, now).evolve(service=service))
    return events


def _points(model: RegisteredModel, alias: str) -> int | None:
    try:
        return model.find(alias).number
    except NotFound:
        return None


def _event(model: RegisteredModel, action: str, reason: str, now: datetime) -> Event:
    return Event(at=now, actor=ACTOR, action=action, subject=f"model/{model.name}", reason=reason)
