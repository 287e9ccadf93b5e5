"""A catalogue of models outside, as MLflow keeps one: what it says, and what a service does with it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput, NotFound

SOURCE_TAG, DIGEST_TAG = "fleetune.source", "fleetune.digest"
"""Tags of a catalogue's version: what engines are to be given instead of its source, and what its files are."""

_KEPT_THERE = frozenset({"models", "runs", "mlflow-artifacts"})
_ENGINES_TAKE = frozenset({"s3", "gs", "az"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ALIAS = r"^[a-z][a-z0-9-]{0,30}$"


class OnMove(StrEnum):
    """What follows when the alias moves."""

    TELL = "tell"  # an event, and a notice where the service names targets
    CANARY = "canary"  # that version goes out, by the service's own steps


class CatalogueLink(Value):
    """What a service follows in MLflow, and what it does then."""

    model: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?$",
        description="The registered model's name there; here it is in small letters, with - for spaces.",
        examples=["Support Llama"],
    )
    alias: str = Field(pattern=_ALIAS, description="Whose moves are followed; latest: every new version.")
    then: OnMove = OnMove.CANARY
    promoted: Annotated[str, Field(pattern=_ALIAS)] | None = Field(
        default="stable", description="The alias there that is moved to what was promoted; null: none."
    )

    @property
    def registered_as(self) -> str:
        """The model's name in our registry."""
        return self.model.lower().replace(" ", "-")

    @property
    def reference(self) -> str:
        """model@alias, as `follows` of a service says it."""
        return f"{self.registered_as}@{self.alias}"


class CatalogueVersion(NamedTuple):
    """One version as the catalogue has it."""

    version: str
    source: str
    tags: Mapping[str, str] = {}
    note: str = ""


class CatalogueModel(NamedTuple):
    """A registered model as the catalogue has it: the newest versions and those with an alias, oldest first."""

    name: str
    versions: tuple[CatalogueVersion, ...] = ()
    aliases: Mapping[str, str] = {}


class Artifact(NamedTuple):
    """A file that the catalogue keeps."""

    path: str
    bytes: int | None


def is_kept_there(version: CatalogueVersion) -> bool:
    """Say whether a version's files are the catalogue's own, which no engine reads."""
    return version.source.partition(":")[0] in _KEPT_THERE


def find_version(model: CatalogueModel, reference: str) -> CatalogueVersion:
    """Return a version by its number or an alias. Raises NotFound."""
    number = model.aliases.get(reference, reference)
    for version in model.versions:
        if version.version == number:
            return version
    known = ", ".join([*(each.version for each in model.versions), *model.aliases]) or "it has none"
    raise NotFound(f"{model.name} has no version '{reference}' in MLflow", allowed=known)


def source_of(version: CatalogueVersion) -> str:
    """Return what engines are given for a version. Raises InvalidInput for what no engine reads."""
    given = version.tags.get(SOURCE_TAG) or version.source
    scheme, found, rest = given.partition("://")
    if scheme == "hf" and rest:
        return rest
    if scheme == "file" and rest.startswith("/"):
        return rest
    readable = scheme in _ENGINES_TAKE if found else ":" not in given
    if is_kept_there(version) and given == version.source:
        raise InvalidInput(
            f"version {version.version} is kept in MLflow itself, where no engine reads it",
            why=given,
            allowed=f"`fleetune model fetch MODEL {version.version} --to FOLDER` where engines are, or the tag "
            f"{SOURCE_TAG} with where its files lie",
        )
    if not given or not readable:
        raise InvalidInput(
            f"version {version.version} has a source that no engine reads",
            why=given or "it has none",
            allowed=f"a folder, hf://NAME, s3://, gs:// or az://, there or as its tag {SOURCE_TAG}",
        )
    return given


def digest_of(version: CatalogueVersion) -> str | None:
    """Return what a version's files are said to be, if anything. Raises InvalidInput for what is no digest."""
    given = version.tags.get(DIGEST_TAG)
    if given is not None and _DIGEST.fullmatch(given) is None:
        raise InvalidInput(
            f"version {version.version} has a tag {DIGEST_TAG} that is no digest",
            why=given[:100],
            allowed="sha256: and 64 hexadecimal digits",
        )
    return given


def check_url(url: str) -> str:
    """Return the URL of a catalogue. Raises InvalidInput for another kind, or one that holds a password."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("MLflow cannot be asked there", why=f"'{url.rpartition('@')[2]}' is no URL of a server")
    if parts.username or parts.password:
        raise InvalidInput(
            "the URL of MLflow holds a password",
            why="the installation's file would keep it",
            allowed="MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN in the environment",
        )
    return url.rstrip("/")


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None
