"""One holder at a time: a lock on a file, which the kernel lets go of when its holder dies, by kill -9 too."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.domain.errors import Conflict


@contextmanager
def alone(path: Path, *, what: str, allowed: str = "") -> Iterator[None]:
    """Hold the lock while inside; its file stays. Raises Conflict, saying `what` holds it, when another does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(what, why=f"{path} is locked", allowed=allowed) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock while inside, after whoever holds it now: of threads and of processes. For what takes moments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
