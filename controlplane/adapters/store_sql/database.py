"""One database: its connections, its transactions, and its errors in Fleetune's words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from controlplane.adapters.store_sql.fence import refuse_deposed
from controlplane.domain.errors import InvalidInput, Unavailable

ALLOWED_URLS = "sqlite:///FILE or postgresql://USER@HOST/NAME"
BUSY_S = 15.0
"""How long a SQLite writer waits for another one before it gives up."""

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class Database:
    """Connections to one SQLite file or PostgreSQL database; safe from several threads and processes.

    `leader` is the number of the controller that writes; None writes whoever leads.
    """

    def __init__(self, url: str, *, leader: int | None = None) -> None:
        self._leader = leader
        self._url = _parse(url)
        self.name = self._url.render_as_string(hide_password=True)
        _make_file(self._url)
        self._engine = _engine(self._url)
        # SQLite: a transaction that will write says so at its start, or two of them deadlock half-way through.
        self._writer = self._engine.execution_options(fleetune_writes=True)

    @property
    def sqlalchemy_url(self) -> str:
        """The URL with its driver and its password: for libraries that open the same database, never for a log."""
        return self._url.render_as_string(hide_password=False)

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """Return an insert that can be told what to do on a conflict."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def scalar(self, query: sa.Select[tuple[Any]]) -> Any:
        """Return the one value that a query finds; None when it finds no row."""
        with self.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads. Raises Unavailable."""
        with self._in_our_words("read"), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes, all or nothing. Raises Unavailable, Deposed; lets IntegrityError pass."""
        with self._in_our_words("written"), self._writer.begin() as connection:
            if self._leader is not None:
                refuse_deposed(connection, self._leader)
            yield connection

    def close(self) -> None:
        """Close every idle connection."""
        self._engine.dispose()

    @contextmanager
    def _in_our_words(self, verb: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # a lost race, not a broken store: the caller knows what it means
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self.unavailable(verb, error) from error

    def unavailable(self, verb: str, error: Exception) -> Unavailable:
        """Return the error that says this store could not be `verb` (read, written, upgraded)."""
        cause = getattr(error, "orig", None) or error
        return Unavailable(
            f"the store {self.name} cannot be {verb}",
            why=" ".join(str(cause).split()) or type(cause).__name__,
            allowed=f"a reachable, writable database: {ALLOWED_URLS}",
        )


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:  # the latter of a port that is no number
        raise InvalidInput(
            "the store's URL cannot be read", why="it is no database URL", allowed=ALLOWED_URLS
        ) from error
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise InvalidInput(
            "the store's URL cannot be used", why=f"unknown database '{parsed.drivername}'", allowed=ALLOWED_URLS
        )
    if driver == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise InvalidInput(
            "the store's URL names no file", why="several processes share the store", allowed=ALLOWED_URLS
        )
    return parsed.set(drivername=driver)


def _make_file(url: sa.URL) -> None:
    """Make an empty file that only its owner reads: services may carry secrets in their engines' environment."""
    if url.get_backend_name() != "sqlite" or url.database is None:
        return
    file = Path(url.database)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.touch(mode=0o600)
    except OSError as error:
        raise Unavailable(
            f"the store's file {file} cannot be made", why=error.strerror or str(error), allowed="a writable folder"
        ) from error


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "postgresql":
        return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S})
    sa.event.listen(engine, "connect", _configure_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own way breaks transactional DDL
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # with WAL: kill -9 loses nothing, a power cut the last commits
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("fleetune_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
