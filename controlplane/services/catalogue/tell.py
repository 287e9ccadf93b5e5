"""What became of a catalogue's versions goes back to it: a tag on the version, and the alias of what was promoted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.catalogue import CatalogueLink
from controlplane.domain.errors import NotFound
from controlplane.domain.event import Event
from controlplane.domain.models import ModelVersion, Origin, RegisteredModel, SeenAlias, is_alias
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState
from controlplane.ports import Clock
from controlplane.ports.catalogue import ModelCatalogue
from controlplane.ports.store import Store, Versioned

TAG = "fleetune."
"""What became of a version at a service stands in a tag of this and the service's name."""
_LOOK_AT = 100  # rollouts of a service: what ended while the catalogue was silent


class _Owed(NamedTuple):
    """One rollout that the catalogue was not told of. `version` is None where it says nothing of one."""

    rollout: Rollout
    version: ModelVersion | None


def tell_outcomes(
    store: Store,
    catalogue: ModelCatalogue,
    saved: Versioned[RegisteredModel],
    links: Mapping[ServiceName, CatalogueLink],
    clock: Clock,
) -> None:
    """Tell the catalogue of every rollout that ended since it was told last, oldest first.

    Telling twice is as once: a crash before the save that follows has the same told again. Raises Unavailable,
    NotFound, StaleVersion; the rest is told at the next pass then.
    """
    for service, link in links.items():
        owed = list(_owed(store, saved.value, service))
        for each in owed:
            last = each is _last_promoted(owed)
            after, event = _tell(catalogue, saved.value, link, each, move=last)
            events = [] if event is None else [event.evolve(at=clock())]
            saved = Versioned(after, store.save_model(after, saved.version, events=events))


def _owed(store: Store, model: RegisteredModel, service: ServiceName) -> Iterator[_Owed]:
    assert model.origin is not None, "a mirrored model has an origin"
    told, since = model.origin.told.get(service), model.origin.since
    if told is not None and [row.value.rollout_id for row in store.list_rollouts(service, limit=1)] == [told]:
        return  # as nearly always
    found: list[Rollout] = []
    for rollout, _ in store.list_rollouts(service, limit=_LOOK_AT):
        if rollout.rollout_id == told or rollout.created_at < since:
            break
        if rollout.state in ROLLOUT_FINAL:
            found.append(rollout)
    for rollout in reversed(found):
        yield _Owed(rollout, _version(store, model, rollout))


def _version(store: Store, model: RegisteredModel, rollout: Rollout) -> ModelVersion | None:
    """Return the version that a rollout was about: none when only flags changed."""
    canary, stable = _served(store, model, rollout.canary), _served(store, model, rollout.stable)
    return None if canary is None or canary.origin is None or canary == stable else canary


def _served(store: Store, model: RegisteredModel, revision: RevisionId | None) -> ModelVersion | None:
    try:
        return None if revision is None else model.of_source(store.get_revision(revision).model.path)
    except NotFound:
        return None


def _last_promoted(owed: Sequence[_Owed]) -> _Owed | None:
    """Aliases follow the last promotion only: what came between was over before the catalogue could know."""
    about = [each for each in owed if each.version is not None and each.rollout.state is RolloutState.PROMOTED]
    return about[-1] if about else None


def _tell(
    catalogue: ModelCatalogue, model: RegisteredModel, link: CatalogueLink, owed: _Owed, *, move: bool
) -> tuple[RegisteredModel, Event | None]:
    """Tell of one rollout; return the model that says so, with what happened."""
    rollout, version = owed
    if version is None or version.origin is None:
        return _with_told(model, rollout), None
    promoted = rollout.state is RolloutState.PROMOTED
    outcome = f"{'promoted' if promoted else 'rolled back'} by {rollout.rollout_id}: {rollout.reason}"[:500]
    catalogue.tag(link.model, version.origin, {f"{TAG}{rollout.service}": outcome})
    said = f"version {version.number} is tagged in MLflow: {outcome}"
    if move and link.promoted is not None:
        model, moved = _moved(catalogue, model, link.model, link.promoted, rollout, version)
        said = f"{moved}; {said}"
    return _with_told(model, rollout), _event(model, rollout, said)


def _moved(
    catalogue: ModelCatalogue, model: RegisteredModel, there: str, alias: str, rollout: Rollout, version: ModelVersion
) -> tuple[RegisteredModel, str]:
    """Move an alias to what was promoted, unless somebody moved it since the rollout began; return what was done."""
    origin, wanted = _origin(model), version.origin or ""
    present, seen = catalogue.model(there).aliases.get(alias), origin.aliases.get(alias)
    if present == wanted:
        return model, f"{alias} is confirmed"
    by_somebody = present != (None if seen is None else seen.version)
    if by_somebody or (seen is not None and seen.since > rollout.created_at):
        return model, f"{alias} stays at version {present} in MLflow: it was moved since {rollout.rollout_id} began"
    catalogue.move_alias(there, alias, wanted)
    now_there = {**origin.aliases, alias: SeenAlias(version=wanted, since=rollout.created_at)}
    model = model.evolve(origin=origin.evolve(aliases=now_there))
    return _here_too(model, alias, version, rollout), f"{alias} is moved to version {wanted} in MLflow"


def _here_too(model: RegisteredModel, alias: str, version: ModelVersion, rollout: Rollout) -> RegisteredModel:
    present = model.aliases.get(alias)
    if not is_alias(alias) or (present is not None and present.version == version.number):
        return model
    return model.moved(alias, version.number, by="controller", at=rollout.finished_at or rollout.updated_at)


def _with_told(model: RegisteredModel, rollout: Rollout) -> RegisteredModel:
    origin = _origin(model)
    return model.evolve(origin=origin.evolve(told={**origin.told, rollout.service: rollout.rollout_id}))


def _origin(model: RegisteredModel) -> Origin:
    assert model.origin is not None, "a mirrored model has an origin"
    return model.origin


def _event(model: RegisteredModel, rollout: Rollout, reason: str) -> Event:
    return Event(
        at=rollout.updated_at,
        actor="controller",
        action="model.told",
        subject=f"model/{model.name}",
        service=rollout.service,
        reason=reason,
    )
