"""How the files of kept metrics are opened: SQLite, one writer, any number of readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from controlplane.domain.errors import Unavailable

_BUSY_S = 5.0


@contextmanager
def opened(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """Open the file, made with its tables if need be. Raises Unavailable for whatever SQLite objects to meanwhile."""
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as base:
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=OFF")  # a day of samples is worth no fsync
            base.executescript(schema)
            yield base
    except sqlite3.Error as error:
        raise Unavailable(f"the metrics of {path.name} cannot be used", why=str(error)) from error
