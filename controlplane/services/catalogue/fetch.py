"""Bring the files of a version that MLflow keeps itself to a folder that engines read, and say there where it is.

Each file comes whole into a folder beside the wanted one, which takes its name when all are there and are what they
should be. Whoever is killed goes on with the next call from the files that are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from controlplane.domain.catalogue import (
    DIGEST_TAG,
    SOURCE_TAG,
    Artifact,
    CatalogueVersion,
    digest_of,
    find_version,
    is_kept_there,
)
from controlplane.domain.errors import Conflict, InvalidInput, Unavailable, unreadable
from controlplane.host.digests import folder_digest
from controlplane.host.files import move_whole, name_folder, write_whole
from controlplane.host.locks import alone
from controlplane.ports.catalogue import ArtifactSource, ModelCatalogue

GIB = 2**30
KEPT_FREE_GIB = 10.0


class Fetched(NamedTuple):
    """What lies where now."""

    version: str
    folder: Path
    digest: str
    files: int
    fetched: int  # by this call


def fetch_version(
    catalogue: ModelCatalogue,
    files: ArtifactSource,
    *,
    model: str,
    reference: str,
    folder: Path,
    most_gib: float | None = None,
    keep_free_gib: float = KEPT_FREE_GIB,
    tell: Callable[[str], None] = lambda _: None,
) -> Fetched:
    """Fetch a version by number or alias, and tag it with its folder and digest; what is there already stays.

    Raises NotFound, Unavailable, Conflict while somebody else fetches into the folder or something else is there,
    InvalidInput for a version that is not MLflow's to give, is too large, or is not what its digest says.
    """
    version = find_version(catalogue.model(model), reference)
    if not is_kept_there(version):
        raise InvalidInput(
            f"{model} version {version.version} is not kept in MLflow",
            why=f"its source is {version.source or 'empty'}",
            allowed="models:/, runs:/ or mlflow-artifacts:/; engines are given others as they are",
        )
    wanted, place = digest_of(version), _Place(folder)
    try:
        with alone(place.lock, what=f"somebody else fetches into {folder}"):
            limits = _Limits(most_gib, keep_free_gib)
            fetched = _fetched(files, version, place, wanted, limits, tell)
            catalogue.tag(model, version.version, {SOURCE_TAG: str(folder), DIGEST_TAG: fetched.digest})
            place.marker.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot fetch into {folder}", why=unreadable(error)) from error
    return fetched


class _Limits(NamedTuple):
    most_gib: float | None
    keep_free_gib: float


class _Place:
    """A folder and what lies beside it until it is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.draft = folder.with_name(f"{folder.name}.part")
        self.one = folder.with_name(f"{folder.name}.one")  # a file that comes
        self.lock = folder.with_name(f"{folder.name}.lock")
        self.marker = folder.with_name(f"{folder.name}.fetched")  # whose it is, until MLflow was told


def _fetched(
    files: ArtifactSource,
    version: CatalogueVersion,
    place: _Place,
    wanted: str | None,
    limits: _Limits,
    tell: Callable[[str], None],
) -> Fetched:
    if place.folder.exists():
        found = _known(place, version, wanted)
        return Fetched(version.version, place.folder, found, _count(place.folder), 0)
    artifacts = files.artifacts(version.source)
    missing = [each for each in artifacts if not _is_here(place.draft, each)]
    _check_room(version, place, artifacts, missing, limits)
    for number, each in enumerate(missing, 1):
        tell(f"{number} of {len(missing)}: {each.path}, {(each.bytes or 0) / GIB:.2f} GiB")
        _one(files, version, place, each)
    digest = folder_digest(place.draft)
    if wanted is not None and digest != wanted:
        shutil.rmtree(place.draft)
        raise InvalidInput(
            f"version {version.version} is not what its tag {DIGEST_TAG} says",
            why=f"its files are {digest}; they are removed",
            allowed=wanted,
        )
    write_whole(place.marker, f"{version.source}\n{digest}\n")
    name_folder(place.draft, place.folder)
    return Fetched(version.version, place.folder, digest, len(artifacts), len(missing))


def _one(files: ArtifactSource, version: CatalogueVersion, place: _Place, artifact: Artifact) -> None:
    """Fetch a file beside the draft, and move it there once it is whole."""
    shutil.rmtree(place.one, ignore_errors=True)
    place.one.mkdir(parents=True)
    got = files.fetch(version.source, artifact.path, place.one)
    size = got.stat().st_size
    if artifact.bytes is not None and size != artifact.bytes:
        raise Unavailable(f"{artifact.path} did not come whole", why=f"{size} of {artifact.bytes} bytes")
    target = place.draft / artifact.path
    target.parent.mkdir(parents=True, exist_ok=True)
    move_whole(got, target)
    shutil.rmtree(place.one)


def _known(place: _Place, version: CatalogueVersion, wanted: str | None) -> str:
    """Return the digest of a folder that is there, if it is this version's. Raises Conflict."""
    source, _, noted = place.marker.read_text().partition("\n") if place.marker.exists() else ("", "", "")
    if wanted is None and source == version.source:
        wanted = noted.strip()
    if wanted is None:
        raise Conflict(f"{place.folder} is there already", why="whose files it holds is not known", allowed="another")
    found = folder_digest(place.folder)
    if found != wanted:
        raise Conflict(f"{place.folder} holds something else", why=f"its digest is {found}", allowed=wanted)
    return found


def _is_here(draft: Path, artifact: Artifact) -> bool:
    path = draft / artifact.path
    return artifact.bytes is not None and path.is_file() and path.stat().st_size == artifact.bytes


def _check_room(
    version: CatalogueVersion,
    place: _Place,
    artifacts: Sequence[Artifact],
    missing: Sequence[Artifact],
    limits: _Limits,
) -> None:
    for each in artifacts:
        if PurePosixPath(each.path).is_absolute() or ".." in PurePosixPath(each.path).parts:
            raise InvalidInput(f"version {version.version} has a file outside of it", why=each.path[:200])
    total, needed = (sum(each.bytes or 0 for each in group) / GIB for group in (artifacts, missing))
    if limits.most_gib is not None and total > limits.most_gib:
        raise InvalidInput(
            f"version {version.version} is too large", why=f"{total:.1f} GiB", allowed=f"{limits.most_gib:g} GiB"
        )
    free = shutil.disk_usage(place.folder.parent).free / GIB
    if needed > free - limits.keep_free_gib:
        raise InvalidInput(
            f"version {version.version} does not fit on the disk of {place.folder.parent}",
            why=f"{needed:.1f} GiB are missing, {free:.1f} are free and {limits.keep_free_gib:g} are to stay so",
            allowed="a larger disk, or less kept free",
        )


def _count(folder: Path) -> int:
    return sum(1 for each in folder.rglob("*") if each.is_file())
