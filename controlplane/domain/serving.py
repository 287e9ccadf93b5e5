"""What one service serves now: its spec, its stable revision and how many replicas it wants."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from controlplane.domain.adapters import ServedAdapter
from controlplane.domain.base import RevisionId, RolloutId, ServiceName, Value
from controlplane.domain.service import ServiceSpec


class Former(Value):
    """The revision that served before, and how long its engines are kept for a roll-back."""

    revision: RevisionId
    replicas: int = Field(ge=1)
    until: AwareDatetime


class Service(Value):
    """A registered service. `stable` is None until the first revision serves."""

    name: ServiceName
    spec: ServiceSpec
    stable: RevisionId | None = None
    stable_replicas: int = 0
    former: Former | None = None
    rollout: RolloutId | None = None  # the one not final, if any
    stopped: bool = False  # scale to nothing, keep the record
    described: RevisionId | None = None  # what a new description asks for and no rollout was started of yet
    adapters: tuple[ServedAdapter, ...] = ()
    updated_at: AwareDatetime

    def adapter(self, name: str) -> ServedAdapter | None:
        """Return the adapter that clients ask for by a name."""
        return next((each for each in self.adapters if each.name == name), None)
