"""Where files and batches lie: folders that the gateways of one data folder share, readable by their owner only.

Contents of files may be kept elsewhere (`contents`); what they are, and batches, are always here. Prompts and answers
lie here, as their owners gave them to be kept; nothing of them goes anywhere else.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from controlplane.domain.door.batch import Batch, StoredFile
from controlplane.gateway.batches.contents import Contents, DiskContents
from controlplane.host.files import whole_file, write_whole

_ID = re.compile(r"(file|batch)-[0-9a-f]{24}(-(output|errors))?")


class Shelf:
    """Files and batches under one folder."""

    def __init__(self, root: Path, contents: Contents | None = None) -> None:
        self.root = root
        self.contents: Contents = contents or DiskContents(self._files)
        self._ended: set[str] = set()
        self._lying: dict[Path | str, tuple[int, float]] = {}  # size, and since when it was seen so
        for folder in (self._files, self._batches, self.uploads):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def _files(self) -> Path:
        return self.root / "files"

    @property
    def uploads(self) -> Path:
        """What is on its way here."""
        return self.root / "uploads"

    @property
    def _batches(self) -> Path:
        return self.root / "batches"

    def new_id(self, kind: str) -> str:
        return f"{kind}-{secrets.token_hex(12)}"

    def draft_path(self, file_id: str) -> Path:
        """Return where a content is written before it is kept."""
        return self.uploads / f"{file_id}.jsonl"

    def folder_of(self, batch_id: str) -> Path:
        return self._batches / batch_id

    def put_file(self, stored: StoredFile) -> None:
        """Make a file known whose content is there already."""
        write_whole(self._files / f"{stored.file_id}.json", stored.model_dump_json())

    def keep_draft(self, file_id: str) -> None:
        """Keep a content that was written to its draft. Raises OSError."""
        self.contents.take(file_id, self.draft_path(file_id))

    def write_content(self, file_id: str, lines: Iterable[bytes]) -> int:
        """Write a file's content, which is there whole or not at all, and return its bytes. Raises OSError."""
        with whole_file(self.draft_path(file_id)) as file:
            file.writelines(lines)
            size = file.tell()
        self.contents.take(file_id, self.draft_path(file_id))
        return size

    def input_of(self, batch: Batch) -> Path:
        """Return where the lines of a batch are to be read. Raises OSError, FileNotFoundError for a deleted file."""
        return self.contents.fetch(batch.input_file_id, self._input_path(batch.batch_id))

    def file(self, file_id: str, tenant: str) -> StoredFile | None:
        """Return a tenant's file; another's is as good as none."""
        found = self.any_file(file_id)
        return found if found is not None and found.tenant == tenant else None

    def any_file(self, file_id: str) -> StoredFile | None:
        """Return a file, whoever's it is: for counting."""
        return _read_file(self._files / f"{file_id}.json") if _ID.fullmatch(file_id) else None

    def file_ids(self) -> set[str]:
        return {path.stem for path in self._files.glob("*.json")}

    def batch_ids(self) -> set[str]:
        return {path.name for path in self._batches.iterdir()}

    def files(self, tenant: str) -> list[StoredFile]:
        """Return a tenant's files, the newest first."""
        found = (_read_file(path) for path in self._files.glob("*.json"))
        mine = [each for each in found if each is not None and each.tenant == tenant]
        return sorted(mine, key=lambda each: (each.created_at, each.file_id), reverse=True)

    def delete_file(self, file_id: str) -> None:
        """Delete a file. Raises OSError when its content cannot be deleted now: then `prune` will."""
        (self._files / f"{file_id}.json").unlink(missing_ok=True)
        self.contents.delete(file_id)

    def put_batch(self, batch: Batch) -> None:
        self.folder_of(batch.batch_id).mkdir(exist_ok=True, mode=0o700)
        write_whole(self.folder_of(batch.batch_id) / "batch.json", batch.model_dump_json())

    def forget(self, batch_id: str) -> None:
        """Take a batch away that nobody was told of."""
        shutil.rmtree(self.folder_of(batch_id), ignore_errors=True)

    def batch(self, batch_id: str) -> Batch | None:
        if not _ID.fullmatch(batch_id):
            return None
        try:
            return Batch.model_validate_json((self.folder_of(batch_id) / "batch.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def batches(self) -> list[Batch]:
        """Return all batches, the oldest first."""
        found = map(self.batch, self.batch_ids())
        return sorted((each for each in found if each), key=lambda each: (each.created_at, each.batch_id))

    def waiting(self) -> list[Batch]:
        """Return the batches that have not ended, the oldest first. Those that have are not read again."""
        ids = self.batch_ids()
        found = [batch for batch in map(self.batch, ids - self._ended) if batch]
        self._ended = (self._ended & ids) | {batch.batch_id for batch in found if batch.has_ended}
        waiting = (batch for batch in found if not batch.has_ended)
        return sorted(waiting, key=lambda each: (each.created_at, each.batch_id))

    def ask_to_cancel(self, batch_id: str) -> None:
        """Note that its end is wanted: whoever runs it sees it."""
        (self.folder_of(batch_id) / "cancel").touch(mode=0o600)

    def clear(self, batch_id: str) -> None:
        """Take away what a batch that ended was run by: its results are in files of their own."""
        for path in (self.folder_of(batch_id) / "journal", self._input_path(batch_id)):
            path.unlink(missing_ok=True)

    def is_cancelled(self, batch_id: str) -> bool:
        return (self.folder_of(batch_id) / "cancel").exists()

    def prune(self, before: float, *, now_s: float, lies_s: float) -> None:
        """Remove files made and batches ended before a moment (Unix seconds); what a waiting batch reads stays.

        So goes what an upload that was killed left, once it has lain unchanged for `lies_s` of the looks' own clock
        `now_s`: times that a disk or a storage notes are of a clock that may be set meanwhile.
        """
        wanted = set()
        for batch in self.batches():
            if batch.has_ended and (batch.ended_at or batch.created_at) < before:
                self.forget(batch.batch_id)
            elif not batch.has_ended:
                wanted.add(batch.input_file_id)
        for path in list(self._files.glob("*.json")):
            stored = _read_file(path)
            if stored is not None and stored.created_at < before and stored.file_id not in wanted:
                self.delete_file(stored.file_id)
        for lying in self._long_there(now_s, lies_s):
            if isinstance(lying, Path):
                lying.unlink(missing_ok=True)
            else:
                self.contents.delete(lying)

    def _long_there(self, now_s: float, lies_s: float) -> list[Path | str]:
        """Return drafts that did not grow, and contents that nobody knows, seen so for the first time so long ago."""
        paths = (path for path in self.uploads.glob("*.jsonl") if path.exists())
        drafts: dict[Path | str, int] = {path: path.stat().st_size for path in paths}
        seen = drafts | dict.fromkeys(self.contents.ids() - self.file_ids(), 0)
        before, self._lying = self._lying, {}
        for what, size in seen.items():
            was, since_s = before.get(what, (size, now_s))
            self._lying[what] = (size, since_s if was == size else now_s)
        return [what for what, (_, since_s) in self._lying.items() if now_s - since_s >= lies_s]

    def _input_path(self, batch_id: str) -> Path:
        return self.folder_of(batch_id) / "input.jsonl"


def private_opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield a file's lines that say something, numbered from 1."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.strip()


def _read_file(path: Path) -> StoredFile | None:
    try:
        return StoredFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
