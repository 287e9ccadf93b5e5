"""Documents read by the standard library alone: SQLAlchemy is an eighth of a second of CPU, too much for one command.

It reads what it knows, a SQLite file at the newest schema, and writes nothing. What is to be said of any other store,
why it cannot be read among it, is `SqlStore`'s to say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from controlplane.adapters.store_sql.version import NEWEST, VERSION_TABLE

BUSY_S = 1.0
_SQLITE = "sqlite:///"


class Wanted(NamedTuple):
    """The documents of a table whose columns have these values, newest first."""

    table: str
    where: Mapping[str, str]
    limit: int | None = None
    oldest_first: bool = False


def glance(url: str, wanted: Wanted) -> Sequence[str] | None:
    """Return the documents as they are stored; None where the store is none that can be read so, or not now."""
    file = Path(url.removeprefix(_SQLITE))
    if not url.startswith(_SQLITE) or not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            return _documents(connection, wanted) if _is_newest(connection) else None
    except sqlite3.Error:
        return None


def _is_newest(connection: sqlite3.Connection) -> bool:
    found = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()
    return found == [(NEWEST,)]


def _documents(connection: sqlite3.Connection, wanted: Wanted) -> Sequence[str]:
    conditions = " AND ".join(f"{column} = ?" for column in wanted.where) or "TRUE"
    order = "ASC" if wanted.oldest_first else "DESC"
    limit = -1 if wanted.limit is None else wanted.limit
    rows = connection.execute(
        f"SELECT document FROM {wanted.table} WHERE {conditions} ORDER BY seq {order} LIMIT ?",
        (*wanted.where.values(), limit),
    )
    return [document for (document,) in rows]
