"""A catalogue of models that somebody else keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from controlplane.domain.catalogue import Artifact, CatalogueModel


class ModelCatalogue(Protocol):
    """Registered models, their versions, aliases and tags. Every method raises Unavailable when it does not answer,
    NotFound for an unknown model or version. Repeating a method changes nothing more. Of two who move an alias at once
    the later one wins, unasked: a catalogue has no guard.
    """

    def model(self, name: str) -> CatalogueModel:
        """Return a model as it is now, without versions that are still being made."""

    def move_alias(self, name: str, alias: str, version: str) -> None: ...

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version; its others stay."""


class ArtifactSource(Protocol):
    """Files that a catalogue keeps itself. Raises Unavailable when it gives none, NotFound for what is not there."""

    def artifacts(self, source: str) -> Sequence[Artifact]:
        """Return every file under a source of a version."""

    def fetch(self, source: str, path: str, folder: Path) -> Path:
        """Write one of them somewhere into an empty folder; returns where. What a killed one left is the caller's."""
