"""Values kept as JSON documents beside searchable columns, written under the guard of a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.decoding import decode
from controlplane.adapters.store_sql.events import add_events
from controlplane.domain.base import Value
from controlplane.domain.errors import NotFound, StaleVersion
from controlplane.domain.event import Event
from controlplane.ports.store import Versioned

V = TypeVar("V", bound=Value)

Columns = Callable[[Any], Mapping[str, Any]]
"""Returns what a value puts into the searchable columns of its table."""


class Documents(Generic[V]):
    """All values of one type. `key` names the columns that identify one."""

    def __init__(
        self,
        database: Database,
        table: sa.Table,
        model: type[V],
        *,
        key: tuple[str, ...],
        columns: Columns,
        noun: str | None = None,
    ) -> None:
        self._database = database
        self._table = table
        self._model = model
        self._key = key
        self._columns = columns
        self._noun = noun or model.__name__.lower()

    def get(self, *key: str) -> Versioned[V]:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(self._select().where(*self._is(key))).one_or_none()
        if row is None:
            raise NotFound(f"no {self._noun} '{'/'.join(key)}'")
        return self._versioned(row)

    def find(
        self, *where: sa.ColumnElement[bool], limit: int | None = None, oldest_first: bool = False
    ) -> Sequence[Versioned[V]]:
        """Return what matches, in the order of insertion or its reverse."""
        seq = self._table.c.seq
        query = self._select().where(*where).order_by(seq.asc() if oldest_first else seq.desc()).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [self._versioned(row) for row in rows]

    def save(self, value: V, version: int, events: Sequence[Event] = ()) -> int:
        """Insert (version 0) or replace exactly `version`; returns the new version. Raises StaleVersion."""
        with self._database.write() as connection:
            self.put(connection, value, version)
            add_events(connection, events)
        return version + 1

    def put_all(self, connection: sa.Connection, rows: Sequence[Versioned[V]]) -> None:
        """Do `put` for each of these."""
        for value, version in rows:
            self.put(connection, value, version)

    def put(self, connection: sa.Connection, value: V, version: int) -> None:
        """Do as `save` inside the caller's transaction, which must end when StaleVersion is raised."""
        try:
            kept = self._insert(connection, value) if version == 0 else self._replace(connection, value, version)
        except IntegrityError as error:
            raise self._stale(value, version) from error
        if not kept:
            raise self._stale(value, version)

    def delete(self, *key: str, events: Sequence[Event] = ()) -> None:
        """Delete one; with it, if it was there, the events are kept."""
        with self._database.write() as connection:
            gone = connection.execute(self._table.delete().where(*self._is(key)))
            add_events(connection, events if gone.rowcount else ())

    def _insert(self, connection: sa.Connection, value: V) -> bool:
        connection.execute(self._table.insert().values(version=1, **self._row(value)))
        return True

    def _replace(self, connection: sa.Connection, value: V, version: int) -> bool:
        row = self._row(value)
        guard = [*self._is(tuple(row[name] for name in self._key)), self._table.c.version == version]
        changed = connection.execute(self._table.update().where(*guard).values(version=version + 1, **row))
        return changed.rowcount == 1

    def _row(self, value: V) -> dict[str, Any]:
        return {**self._columns(value), "document": value.model_dump_json()}

    def _is(self, key: tuple[str, ...]) -> list[sa.ColumnElement[bool]]:
        return [self._table.c[name] == part for name, part in zip(self._key, key, strict=True)]

    def _select(self) -> sa.Select[Any]:
        return sa.select(self._table.c.document, self._table.c.version)

    def _versioned(self, row: sa.Row[Any]) -> Versioned[V]:
        return Versioned(decode(self._model, row.document), row.version)

    def _stale(self, value: V, version: int) -> StaleVersion:
        columns = self._columns(value)
        name = "/".join(str(columns[part]) for part in self._key)
        why = "it exists already" if version == 0 else f"version {version} is not the present one"
        return StaleVersion(f"{self._noun} '{name}' was saved by somebody else", why=why, allowed="load it again")
