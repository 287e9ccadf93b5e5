"""Files that are there whole or not at all, whatever dies meanwhile: the one way in which Fleetune replaces a file.

Decided once: a draft beside the target is written, synced and renamed over it, and the folder is synced, so after a
crash of the process or of the machine there is the old file or the new one. What an installation keeps is readable by
its owner only (keys, tokens, environments); what is written for a person gets the permissions of their umask.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_OWNER_ONLY = 0o600
_AS_UMASK_SAYS = 0o666


def write_whole(path: Path, content: bytes | str, *, private: bool = True) -> None:
    """Replace a file, making its folder when needed. Raises OSError, and the old file is still there."""
    with whole_file(path, private=private) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_first(path: Path, content: bytes) -> None:
    """Make a file unless there is one: of several writers at once exactly one wins. Raises OSError."""
    with _draft(path, private=True) as (file, draft):
        file.write(content)
        _sync(file)
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    _sync_folder(path.parent)


def move_whole(draft: Path, path: Path) -> None:
    """Replace a file by one that was written beside it, on the same disk. Raises OSError, and the old file is there."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def name_folder(draft: Path, folder: Path) -> None:
    """Give a folder of whole files its name, which nothing has. Raises OSError."""
    draft.rename(folder)
    _sync_folder(folder.parent)


def ends_torn(file: IO[bytes]) -> bool:
    """Say whether a killed writer left the last line of a file open. Raises OSError."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


@contextmanager
def whole_file(path: Path, *, private: bool = True) -> Iterator[IO[bytes]]:
    """Write a file piece by piece; it replaces `path` when the block ends, and is thrown away when it raises."""
    with _draft(path, private=private) as (file, draft):
        yield file
        _sync(file)
        draft.replace(path)
    _sync_folder(path.parent)


@contextmanager
def _draft(path: Path, *, private: bool) -> Iterator[tuple[IO[bytes], Path]]:
    """Open a file beside `path` under a name of its own, so that several writers never share one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _OWNER_ONLY if private else _AS_UMASK_SAYS & ~_umask())
            yield file, draft
    finally:
        draft.unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """Read it from /proc: asking the kernel by setting it would race with other threads."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)
