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
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"it is {_kind(found.st_mode)}, a regular file is needed")
        if found.st_size <= most_bytes and len(raw := file.read(most_bytes + 1)) <= most_bytes:
            return raw
    raise OSError(errno.EFBIG, f"it is larger than {most_bytes // 2**20} MiB, which none of its kind is")


def is_pipe_or_device(path: Path) -> bool:
    """Say whether a library that is to open the path would wait for it, or read for ever."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "no file"
