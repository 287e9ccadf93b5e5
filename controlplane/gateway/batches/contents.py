"""Where the contents of files are kept: on this disk, or in a bucket (`contents_s3`). One suite of tests holds both.

What comes is written to the disk first and handed over whole: so a content is there whole or not at all, in whatever
order processes die, and handing it over again is fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from controlplane.host.files import move_whole

PIECE_BYTES = 1 << 20


class Contents(Protocol):
    """Contents by the ids of their files. All methods block, raise OSError, and are called from threads."""

    def take(self, file_id: str, path: Path) -> None:
        """Keep what lies at a path of this disk, in place of what was there; the path is gone afterwards."""

    def fetch(self, file_id: str, path: Path) -> Path:
        """Return where a content lies on this disk: `path`, where it had to be fetched. Raises FileNotFoundError."""

    def here(self, file_id: str) -> Path | None:
        """Return where it lies on this disk without being fetched, None where it does not."""

    def pieces(self, file_id: str) -> Iterator[bytes]:
        """Yield a content from its beginning. Raises FileNotFoundError before the first piece."""

    def delete(self, file_id: str) -> None:
        """Delete it; one that is not there is fine."""

    def ids(self) -> set[str]:
        """Return the files whose contents are here."""


class DiskContents:
    """Contents in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, file_id: str, path: Path) -> None:
        move_whole(path, self._path(file_id))

    def fetch(self, file_id: str, path: Path) -> Path:
        found = self._path(file_id)
        if not found.exists():
            raise FileNotFoundError(file_id)
        return found

    def here(self, file_id: str) -> Path | None:
        return self._path(file_id)

    def pieces(self, file_id: str) -> Iterator[bytes]:
        with self._path(file_id).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def delete(self, file_id: str) -> None:
        self._path(file_id).unlink(missing_ok=True)

    def ids(self) -> set[str]:
        return {path.stem for path in self._folder.glob("*.jsonl")}

    def _path(self, file_id: str) -> Path:
        return self._folder / f"{file_id}.jsonl"
