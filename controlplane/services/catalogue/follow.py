"""Follows the models of a catalogue that services name; beside the controller, so that its silence delays nobody.

The registry is the journal: what the catalogue said is saved before anything follows from it, and a rollout that ended
is owed to the catalogue until the saved model says that it was told. Whatever a crash left half done is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from controlplane.domain.base import ServiceName
from controlplane.domain.catalogue import CatalogueLink
from controlplane.domain.errors import FleetuneError, NotFound, StaleVersion
from controlplane.domain.mirroring import Mirrored, mirrored, unanswered
from controlplane.domain.models import RegisteredModel
from controlplane.ports import Clock
from controlplane.ports.catalogue import ModelCatalogue
from controlplane.ports.store import Store, Versioned
from controlplane.services.catalogue.tell import tell_outcomes

LOOK_S = 10.0
LONGEST_WAIT_S = 300.0
"""A catalogue that does not answer is asked after 20 s, 40 s, ... and at last every five minutes."""

Links = Mapping[ServiceName, CatalogueLink]


class CatalogueFollower:
    """One pass over all followed models. `open_catalogue` is tried until it works; `monotonic` in seconds."""

    def __init__(
        self,
        *,
        store: Store,
        open_catalogue: Callable[[], ModelCatalogue],
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._open = open_catalogue
        self._opened: ModelCatalogue | None = None
        self._clock = clock
        self._monotonic = monotonic
        self._wait_s = LOOK_S
        self._next_at: float | None = None
        self._problems: Sequence[str] = ()

    def run(self) -> Sequence[str]:
        """Look at every followed model, when it is time; returns what could not be done, until the next look."""
        followed = _followed(self._store)
        if not followed:
            return ()
        if self._next_at is not None and self._monotonic() < self._next_at:
            return self._problems
        found = {name: self._tried(name, links) for name, links in followed.items()}
        self._problems = problems = [f"{name}: {why}" for name, why in found.items() if why is not None]
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S) if problems else LOOK_S
        self._next_at = self._monotonic() + self._wait_s
        return problems

    def _tried(self, name: str, links: Links) -> str | None:
        """Do all there is to do for one model of the registry; return what kept it from that."""
        try:
            return self._follow(name, links)
        except StaleVersion:  # somebody saved the model meanwhile: the next pass sees what
            return None
        except FleetuneError as error:
            self._say(name, links, str(error))
            return str(error)

    def _follow(self, name: str, links: Links) -> str | None:
        catalogue, saved = self._catalogue(), _or_new(self._store, name)
        mine = _of_one_name(saved.value, links)
        there = catalogue.model(_name_there(mine))
        saved = self._save(saved, mirrored(saved.value, there, mine, self._clock()))
        tell_outcomes(self._store, catalogue, saved, mine, self._clock)
        strangers = sorted(links.keys() - mine.keys())
        return f"{', '.join(strangers)}: {name} follows {_name_there(mine)} already" if strangers else None

    def _catalogue(self) -> ModelCatalogue:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _say(self, name: str, links: Links, problem: str) -> None:
        saved = _or_new(self._store, name)
        there = _name_there(_of_one_name(saved.value, links))
        try:
            self._save(saved, unanswered(saved.value, there, problem, self._clock()))
        except StaleVersion:
            return

    def _save(self, saved: Versioned[RegisteredModel], after: Mirrored) -> Versioned[RegisteredModel]:
        if after.model == saved.value:
            return saved
        return Versioned(after.model, self._store.save_model(after.model, saved.version, events=after.events))


def _followed(store: Store) -> Mapping[str, Links]:
    """Return the models of the registry that come from a catalogue, with who follows each."""
    found: dict[str, dict[ServiceName, CatalogueLink]] = {}
    for service, _ in store.list_services():
        link = service.spec.mlflow
        if link is not None:
            found.setdefault(link.registered_as, {})[service.name] = link
    return found


def _or_new(store: Store, name: str) -> Versioned[RegisteredModel]:
    try:
        return store.get_model(name)
    except NotFound:
        return Versioned(RegisteredModel(name=name), 0)


def _of_one_name(model: RegisteredModel, links: Links) -> Links:
    """Return the links to one model of the catalogue: two there may differ in what a name here cannot say."""
    names = sorted({link.model for link in links.values()})
    chosen = model.origin.model if model.origin is not None and model.origin.model in names else names[0]
    return {service: link for service, link in links.items() if link.model == chosen}


def _name_there(links: Links) -> str:
    return next(iter(links.values())).model
