"""The schema a store must have. One that has it is opened as it is: Alembic is a third of a second of CPU to import."""

from __future__ import annotations

import sqlalchemy as sa

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.version import NEWEST, VERSION_TABLE
from controlplane.domain.errors import Unavailable


def upgrade(database: Database) -> str:
    """Create or upgrade the tables where they are not at `NEWEST`; returns the schema revision, `NEWEST`.

    Raises Unavailable when the database cannot be read or upgraded, or was made by a newer Fleetune.
    """
    if _present(database) == NEWEST:
        return NEWEST
    from controlplane.adapters.store_sql import migrate

    return migrate.upgrade(database)


def _present(database: Database) -> str | None:
    try:
        with database.read() as connection:
            if not sa.inspect(connection).has_table(VERSION_TABLE):
                return None
            return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    except Unavailable:
        return None  # upgrading says what is wrong
