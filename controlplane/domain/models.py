"""The registry: models, their versions and the aliases that point to them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AwareDatetime, Field, model_validator

from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId, Value
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.rollouts.rollout import RolloutState

_MODEL, _DIGEST = r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", r"(sha256|etags):[0-9a-f]{64}"
ModelName = Annotated[str, Field(pattern=f"^{_MODEL}$")]
AliasName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Digest = Annotated[str, Field(pattern=f"^{_DIGEST}$")]
"""Of a folder's files by their content, or of objects in a store by what the store says of them."""

STABLE, CANDIDATE = "stable", "candidate"
"""What was promoted last, and what is to be next. `stable` follows promotions; people may name others."""
LATEST = "latest"
"""No alias: the newest version, whichever that is."""

_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,30}")


class Variant(Value):
    """The same weights in another form, e.g. quantized: an alternative to the version's own source."""

    name: AliasName = Field(examples=["fp8", "awq"])
    source: str = Field(min_length=1)
    digest: Digest | None = None
    quality: Mapping[str, float] = Field(default_factory=dict)


class ModelVersion(Value):
    """One immutable source of weights."""

    number: int = Field(ge=1)
    source: str = Field(min_length=1, description="A folder, a hub name or a URL: what the engine is given.")
    digest: Digest | None = Field(default=None, description="Of its files; None: nobody has looked.")
    variants: tuple[Variant, ...] = ()
    quality: Mapping[str, float] = Field(default_factory=dict, description="Scores by their names; higher is better.")
    note: str = Field(default="", max_length=500)
    origin: str | None = Field(default=None, description="Its version in the catalogue that it comes from.")
    registered_at: AwareDatetime
    registered_by: str

    @model_validator(mode="after")
    def _different_variants(self) -> ModelVersion:
        names = [variant.name for variant in self.variants]
        if len(names) != len(set(names)):
            raise ValueError(f"two variants of one name among {', '.join(names)}")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that is this version, its own first."""
        return (self.source, *(variant.source for variant in self.variants))

    def source_of(self, variant: str | None) -> str:
        """Return the version's own source, or a variant's. Raises NotFound."""
        if variant is None:
            return self.source
        for each in self.variants:
            if each.name == variant:
                return each.source
        known = ", ".join(each.name for each in self.variants) or "it has none"
        raise NotFound(f"version {self.number} has no variant '{variant}'", allowed=known)


class Alias(Value):
    """A movable name for a version."""

    version: int = Field(ge=1)
    moved_at: AwareDatetime
    moved_by: str


class SeenAlias(Value):
    """Where an alias of the catalogue points, and since when it was seen there."""

    version: str
    since: AwareDatetime


class Origin(Value):
    """The catalogue's model that a model follows (docs/models.md), and how far that has come."""

    model: str = Field(description="Its name in the catalogue.")
    since: AwareDatetime = Field(description="Rollouts begun before are not told to the catalogue.")
    aliases: Mapping[str, SeenAlias] = Field(default_factory=dict, description="As last seen there.")
    refused: Mapping[str, str] = Field(default_factory=dict, description="Versions not registered here, and why.")
    told: Mapping[ServiceName, RolloutId] = Field(default_factory=dict, description="The last rollout it was told of.")
    problem: str | None = Field(default=None, description="Why it cannot be followed now.")


class RegisteredModel(Value):
    """A model with all its versions, oldest first."""

    name: ModelName
    versions: tuple[ModelVersion, ...] = ()
    aliases: Mapping[AliasName, Alias] = Field(default_factory=dict)
    origin: Origin | None = Field(default=None, description="None: nobody but people registers its versions.")

    def find(self, reference: str) -> ModelVersion:
        """Return the version of a number, an alias, or `latest`. Raises NotFound with what there is."""
        number = self._number(reference)
        for version in self.versions:
            if version.number == number:
                return version
        names = [*(str(version.number) for version in self.versions), *self.aliases]
        raise NotFound(f"{self.name} has no version '{reference}'", allowed=", ".join(names) or "none yet")

    def with_version(self, version: ModelVersion) -> RegisteredModel:
        """Return the model with one more version. Raises Conflict when its source is another version already."""
        for known in self.versions:
            if (version.source, version.digest) == (known.source, known.digest):
                raise Conflict(f"{version.source} is version {known.number} of {self.name} already")
        return self.evolve(versions=(*self.versions, version))

    def moved(self, alias: str, version: int, *, by: str, at: AwareDatetime) -> RegisteredModel:
        """Return the model with an alias on a version. Raises NotFound for an unknown one, InvalidInput for a name."""
        self.find(str(version))
        if not is_alias(alias):
            raise InvalidInput(f"'{alias}' is no alias", allowed="a-z, 0-9 and -, a letter first; not latest")
        return self.evolve(aliases={**self.aliases, alias: Alias(version=version, moved_at=at, moved_by=by)})

    def of_origin(self, version: str) -> ModelVersion | None:
        """Return the version that is this one of the catalogue."""
        return next((each for each in self.versions if each.origin == version), None)

    def of_source(self, source: str) -> ModelVersion | None:
        """Return the newest version that a source belongs to."""
        return next((version for version in reversed(self.versions) if source in version.sources), None)

    def _number(self, reference: str) -> int | None:
        if reference == LATEST and self.versions:
            return self.versions[-1].number
        if reference in self.aliases:
            return self.aliases[reference].version
        return int(reference) if re.fullmatch(r"[0-9]{1,9}", reference) else None


def is_model_name(name: str) -> bool:
    """Say whether a model may have this name."""
    return re.fullmatch(_MODEL, name) is not None


def is_digest(text: str) -> bool:
    """Say whether a text is a digest of any kind."""
    return re.fullmatch(_DIGEST, text) is not None


def is_alias(name: str) -> bool:
    """Say whether an alias may have this name."""
    return _ALIAS.fullmatch(name) is not None and name != LATEST


class Outcome(Value):
    """What became of one revision of a version: a rollout, or none yet."""

    version: int
    service: ServiceName
    revision: RevisionId
    study: StudyId | None
    rollout: RolloutId | None
    state: RolloutState | None
    reason: str | None
