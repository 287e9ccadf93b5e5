"""Which versions of a registered model a service serves, and by which names clients may ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import RevisionRoute, VersionRoute
from controlplane.domain.errors import NotFound
from controlplane.domain.models import STABLE, RegisteredModel
from controlplane.domain.serving import Service
from controlplane.ports.store import Store


class ServedVersions(NamedTuple):
    """Of one service: which revisions are of which version, and what each alias points to."""

    revisions: Mapping[RevisionId, int] = {}
    aliases: Mapping[str, int] = {}


class VersionFinder:
    """Finds the versions that revisions serve; what a revision's path is it remembers, for that never changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._paths: dict[RevisionId, str] = {}

    def find(
        self, service: Service, revisions: Iterable[RevisionId | None], models: Sequence[RegisteredModel]
    ) -> ServedVersions:
        """Return what these revisions serve, by the model that the service follows, else by the first that fits."""
        paths = {each: self._path(each) for each in revisions if each is not None} if models else {}
        followed = (service.spec.followed or "").partition("@")[0]
        for model in sorted(models, key=lambda each: (each.name != followed, each.name)):
            found = {revision: model.of_source(path) for revision, path in paths.items() if path}
            numbers = {revision: version.number for revision, version in found.items() if version is not None}
            if numbers:
                return ServedVersions(numbers, {name: alias.version for name, alias in model.aliases.items()})
        return ServedVersions()

    def _path(self, revision: RevisionId) -> str:
        if revision not in self._paths:
            try:
                self._paths[revision] = self._store.get_revision(revision).model.path
            except NotFound:
                return ""
        return self._paths[revision]


def version_routes(model: str, served: ServedVersions, routes: Sequence[RevisionRoute]) -> tuple[VersionRoute, ...]:
    """Return the names of versions that get requests now: of each version, and of each alias that points to one.

    `stable` is always among them: while a promotion's last requests go over, it means what most requests get.
    """
    numbers = {each.revision: served.revisions[each.revision] for each in routes if each.revision in served.revisions}
    if not numbers:
        return ()
    most = max(routes, key=lambda each: each.weight_percent).revision
    aliases = {name: number for name, number in served.aliases.items() if number in numbers.values()}
    if STABLE in served.aliases and most in numbers:
        aliases.setdefault(STABLE, numbers[most])
    names = {str(number): number for number in numbers.values()} | aliases
    return tuple(
        VersionRoute(
            name=f"{model}@{name}",
            version=f"{model}@{number}",
            revisions=tuple(sorted(each for each, theirs in numbers.items() if theirs == number)),
        )
        for name, number in sorted(names.items(), key=lambda each: (each[1], not each[0].isdigit(), each[0]))
    )
