"""LoRA adapters of a served model: small weights that replicas load while they run. Pure.

Clients ask for an adapter by its name as for a model. Each version is loaded under a name of its own, so that an old
and a new one can serve side by side: the gateway says which of them a request gets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, model_validator

from controlplane.domain.base import Value
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.quality import QualityCheck

_NAME = r"[a-z0-9]([a-z0-9._-]{0,46}[a-z0-9])?"
AdapterName = Annotated[str, Field(pattern=f"^{_NAME}$")]
DEFAULT_MAX_RANK = 16
"""vLLM's `max-lora-rank` where nobody says."""

_NO_CANARY: Mapping[str, Any] = {"canary": None, "share_percent": 0, "waits_for_answers": False, "answers": None}
_LOADED_AS = re.compile(r"[a-z0-9][a-z0-9._-]*--[0-9]+")


class AdapterVersion(Value):
    """One folder or hub name of an adapter."""

    number: int = Field(ge=1)
    path: str = Field(min_length=1, max_length=1000)
    rank: int | None = Field(default=None, ge=1, description="None: nobody has looked, as for a hub name.")
    base: str | None = Field(
        default=None, description="The model that served when it was loaded, which it is made for; None: not noted."
    )
    added_at: AwareDatetime
    added_by: str


class ServedAdapter(Value):
    """One adapter of a service. A canary gets its share of the requests; stable the rest."""

    name: AdapterName
    versions: tuple[AdapterVersion, ...] = Field(min_length=1)
    stable: int | None = Field(default=None, description="The version that serves; None: only a canary so far.")
    canary: int | None = None
    share_percent: int = Field(default=0, ge=0, le=100, description="Of requests, for the canary.")
    judged: bool = Field(default=False, description="Live records decide about the canary; False: a person does.")
    waits_for_answers: bool = Field(
        default=False, description="The canary gets no user before its answers were held against stable's."
    )
    answers: QualityCheck | None = Field(default=None, description="What came of that; None: not compared yet.")

    @model_validator(mode="after")
    def _known(self) -> ServedAdapter:
        numbers = {version.number for version in self.versions}
        if not {self.stable, self.canary} - {None} <= numbers:
            raise ValueError(f"{self.name} serves a version that it does not have")
        if self.stable is None and self.canary is None:
            raise ValueError(f"{self.name} serves no version")
        return self

    @property
    def served(self) -> tuple[AdapterVersion, ...]:
        """The versions that replicas are to have loaded."""
        return tuple(version for version in self.versions if version.number in (self.stable, self.canary))

    @property
    def is_judged(self) -> bool:
        """Say whether there is a canary that live records decide about."""
        compared = not self.waits_for_answers
        return self.judged and compared and self.canary is not None and self.stable is not None

    @property
    def shares(self) -> tuple[tuple[int, int], ...]:
        """The versions that get requests with their shares, percent."""
        if self.canary is None or self.stable is None:
            return ((self.stable or self.canary or 0, 100),)
        share = 0 if self.waits_for_answers else self.share_percent
        parts = ((self.stable, 100 - share), (self.canary, share))
        return tuple((number, share) for number, share in parts if share)

    def loaded_as(self, number: int) -> str:
        """Return the name under which replicas load a version."""
        return f"{self.name}--{number}"

    def with_canary(
        self, version: AdapterVersion, share_percent: int, *, judged: bool, compared: bool = False
    ) -> ServedAdapter:
        """Return it with a new version as its canary. Raises Conflict while another is one.

        `compared`: no user gets it before its answers were held against stable's.
        """
        if self.canary is not None:
            raise Conflict(
                f"version {self.canary} of {self.name} is a canary already", allowed="promote it, or take it back"
            )
        asked = {"share_percent": share_percent, "judged": judged, "waits_for_answers": compared}
        return self.evolve(versions=(*self.versions, version), canary=version.number, answers=None, **asked)

    def promoted(self) -> ServedAdapter:
        """Return it with its canary as stable. Raises Conflict without one."""
        return self.evolve(stable=self._canary(), **_NO_CANARY)

    def taken_back(self) -> ServedAdapter:
        """Return it without its canary. Raises Conflict without one, or where nothing else serves."""
        self._canary()
        if self.stable is None:
            raise Conflict(f"{self.name} has nothing to go back to", why="it has one version", allowed="unload it")
        return self.evolve(**_NO_CANARY)

    def back_to(self, number: int) -> ServedAdapter:
        """Return it with an earlier version as stable. Raises NotFound."""
        if number not in {version.number for version in self.versions}:
            known = ", ".join(str(version.number) for version in self.versions)
            raise NotFound(f"{self.name} has no version {number}", allowed=known)
        return self.evolve(stable=number, **_NO_CANARY)

    def _canary(self) -> int:
        if self.canary is None:
            raise Conflict(f"{self.name} has no canary", why=f"version {self.stable} serves alone")
        return self.canary


def is_adapter_name(name: str) -> bool:
    """Say whether an adapter may have this name."""
    return re.fullmatch(_NAME, name) is not None


def is_ours(loaded: str) -> bool:
    """Say whether a replica has loaded something under a name that we give."""
    return _LOADED_AS.fullmatch(loaded) is not None


def same_base(one: str, other: str) -> bool:
    """Say whether two names are of one model: a hub name and a folder that was downloaded from it end alike."""
    return one == other or one.rstrip("/").rpartition("/")[2] == other.rstrip("/").rpartition("/")[2]


def check_rank(path: str, rank: int | None, highest: int) -> None:
    """Raise InvalidInput for an adapter whose rank replicas do not take."""
    if rank is not None and rank > highest:
        raise InvalidInput(
            f"the adapter {path} is too large", why=f"its rank is {rank}", allowed=f"max-lora-rank of stable, {highest}"
        )
