"""Files that people name, read whole: only what is a file, and only as much as one of its kind can be.

A pipe would be waited for until somebody writes into it, a device may never end, and a file of gigabytes fills the
memory before anything of it is found to be wrong.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

SERVICE_BYTES = 16 * 2**20
"""A service, a profile, a mapping, a report: some kilobytes as a rule, in 16 MiB they are something else."""
RECORDING_BYTES = 256 * 2**20
"""A trace or a recording: some millions of requests."""


def read_text(path: Path, *, most_bytes: int = SERVICE_BYTES) -> str:
    """Return a text in UTF-8. Raises as `read_bytes` does, and UnicodeDecodeError."""
    return read_bytes(path, most_bytes=most_bytes).decode()


def read_bytes(path: Path, *, most_bytes: int = SERVICE_BYTES) -> bytes:
    """Return what a file holds.

    Raises OSError where there is none, for a folder, pipe or device, and for more than `most_bytes`, none of it read.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer: at once
    with os.fdopen(descriptor, "rb", closefd=True) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"it is {_kind(found.st_mode)}, a regular file is needed")
        raw = file.read(most_bytes + 1) if found.st_size <= most_bytes else b""
        if found.st_size > most_bytes or len(raw) > most_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {most_bytes // 2**20} MiB, which none of its kind is")
        return raw


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
    return next((name for is_one, name in kinds if is_one(mode)), "no file")
