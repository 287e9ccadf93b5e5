"""The schema's history: bring a database to the newest revision, and refuse one that is newer than this code."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.exc import SQLAlchemyError

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.version import VERSION_TABLE
from controlplane.domain.errors import Unavailable

_LOCK = 0x666C6565  # "flee": any number will do, all processes must name the same one


def upgrade(database: Database) -> str:
    """Create or upgrade the tables; returns the schema revision. Safe when several processes do it at once.

    Raises Unavailable when the database cannot be written or was made by a newer Fleetune.
    """
    config = _config()
    try:
        with database.write() as connection:
            if not database.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _refuse_newer(database, connection, config)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (CommandError, SQLAlchemyError) as error:
        raise database.unavailable("upgraded", error) from error
    return newest()


def newest() -> str:
    """Return the schema revision this code writes."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package ships at least one migration"
    return head


def _refuse_newer(database: Database, connection: sa.Connection, config: Config) -> None:
    present = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if present is not None and present not in known:
        raise Unavailable(
            f"the store {database.name} is too new",
            why=f"its schema is {present}, this Fleetune knows up to {newest()}",
            allowed="the Fleetune that wrote it or a newer one, or another store",
        )


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")  # % is special to Alembic's reader
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    return config
