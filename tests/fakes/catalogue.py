"""The ModelCatalogue port in memory: what a team's MLflow holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.domain.catalogue import Artifact, CatalogueModel, CatalogueVersion
from controlplane.domain.errors import NotFound, Unavailable


@dataclass
class _Kept:
    versions: list[CatalogueVersion] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)


class FakeCatalogue:
    """Implements `ports.ModelCatalogue` and `ports.ArtifactSource`; `silent` says why it does not answer."""

    def __init__(self) -> None:
        self._models: dict[str, _Kept] = {}
        self.silent: str | None = None
        self.asked = 0
        self.given: list[str] = []
        self.cut_at: int | None = None  # bytes after which a file that is fetched ends
        self._files: dict[str, dict[str, bytes]] = {}

    def create(self, name: str) -> None:
        """Register a model without versions, as its team would."""
        self._models[name] = _Kept()

    def add(self, name: str, source: str, *, tags: Mapping[str, str] | None = None) -> str:
        """Add a version; returns its number."""
        kept = self._models.setdefault(name, _Kept())
        kept.versions.append(CatalogueVersion(str(len(kept.versions) + 1), source, dict(tags or {})))
        return kept.versions[-1].version

    def model(self, name: str) -> CatalogueModel:
        kept = self._found(name)
        return CatalogueModel(name, tuple(kept.versions), dict(kept.aliases))

    def move_alias(self, name: str, alias: str, version: str) -> None:
        self._place(name, version)
        self._models[name].aliases[alias] = version

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        place = self._place(name, version)
        versions = self._models[name].versions
        versions[place] = versions[place]._replace(tags={**versions[place].tags, **tags})

    def put(self, source: str, files: Mapping[str, bytes]) -> None:
        """Keep files of a source itself, as its team's runs would."""
        self._files[source] = dict(files)

    def artifacts(self, source: str) -> Sequence[Artifact]:
        if source not in self._files:
            raise NotFound(f"the catalogue has no file at {source}")
        return [Artifact(path, len(content)) for path, content in self._files[source].items()]

    def fetch(self, source: str, path: str, folder: Path) -> Path:
        self.given.append(path)
        target = folder / path.rpartition("/")[2]
        target.write_bytes(self._files[source][path][: self.cut_at])
        return target

    def _place(self, name: str, version: str) -> int:
        for place, each in enumerate(self._found(name).versions):
            if each.version == version:
                return place
        raise NotFound(f"the catalogue has no version {version} of {name}")

    def _found(self, name: str) -> _Kept:
        self.asked += 1
        if self.silent is not None:
            raise Unavailable("MLflow does not answer", why=self.silent)
        if name not in self._models:
            raise NotFound(f"the catalogue has no model {name}")
        return self._models[name]
