"""A site whose chat service follows a model of a catalogue: the controller and the pass that follows, on one clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.domain.catalogue import CatalogueLink
from controlplane.domain.models import RegisteredModel
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.ports.catalogue import ModelCatalogue
from controlplane.ports.store import Store
from controlplane.services.catalogue.follow import LOOK_S, CatalogueFollower
from tests.builders_serving import CHAT, a_spec, some_options
from tests.fakes.catalogue import FakeCatalogue
from tests.integration.controller.site import Site
from tests.mlflow_server import MlflowServer

NAME, KNOWN_AS = "Support Llama", "support-llama"
OLD, NEW, THIRD = a_spec().model.path, "llama-1b", "llama-70b"
REQUESTS = 200  # a second: 5 % of them prove a replica's load within seconds


@dataclass
class MlflowSite:
    """`team` is what people do in the catalogue; `catalogue` how we reach it."""

    catalogue: ModelCatalogue
    team: FakeCatalogue | MlflowServer
    site: Site = field(default_factory=Site)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, *, store: Store | None = None, catalogue: ModelCatalogue | None = None) -> None:
        """Begin a new pass that remembers nothing."""
        self.follower = CatalogueFollower(
            store=store or self.site.store,
            open_catalogue=lambda: catalogue or self.catalogue,
            clock=self.site.clock,
            monotonic=self.site.clock.monotonic,
        )

    def serving(self, *sources: str, alias: str = "candidate", **link: object) -> None:
        """Register these versions there, the first as candidate and stable, and serve it here."""
        for source in sources or (OLD, NEW):
            self.team.add(NAME, f"s3://models/{source}", tags={"fleetune.source": source})
        for each in ("candidate", "stable"):
            self.catalogue.move_alias(NAME, each, "1")
        options = some_options(5, 100, miss_ratio_margin=0.4, error_ratio_margin=0.4)
        mlflow = CatalogueLink.model_validate({"model": NAME, "alias": alias, **link})
        self.site.serving(rollout=options, mlflow=mlflow)
        self.look()

    def moved(self, version: str, *, alias: str = "candidate") -> None:
        """Move an alias there, and let it be seen here."""
        self.catalogue.move_alias(NAME, alias, version)
        self.look()
        self.site.passes(1)

    def look(self, after_s: float = LOOK_S) -> list[str]:
        """Let the pass that follows look once."""
        self.site.clock.go_on(after_s)
        return list(self.follower.run())

    def until(self, *states: RolloutState) -> None:
        """Run the controller until the newest rollout is in one of `states`, and the pass that follows once more."""
        self.site.passes(1, requests=REQUESTS)
        self.site.passes_until(*states, requests=REQUESTS)
        self.site.passes(2, requests=REQUESTS)
        self.look()

    @property
    def model(self) -> RegisteredModel:
        return self.site.store.get_model(KNOWN_AS).value

    @property
    def aliases(self) -> dict[str, str]:
        """As the catalogue has them."""
        return dict(self.catalogue.model(NAME).aliases)

    def tag(self, version: int) -> str | None:
        """What stands at a version there about the chat service."""
        return self.catalogue.model(NAME).versions[version - 1].tags.get(f"fleetune.{CHAT}")

    def said(self, action: str) -> list[str]:
        """Reasons of events of the model, oldest first."""
        events = self.site.store.list_events(subject=f"model/{KNOWN_AS}", limit=1000)
        return [event.reason for event in reversed(events) if event.action == action]

    def act(self, change: Callable[[FakeCatalogue], object]) -> None:
        """Change the fake as nobody asked for."""
        assert isinstance(self.team, FakeCatalogue)
        change(self.team)


def on_fake() -> MlflowSite:
    """Return a site whose catalogue is the fake."""
    fake = FakeCatalogue()
    return MlflowSite(fake, fake)
