"""The audit's part of the Store port."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.decoding import decode
from controlplane.adapters.store_sql.tables import EVENTS
from controlplane.domain.event import Event
from controlplane.telemetry.logs import ids

_log = logging.getLogger(__name__)


class SqlEvents:
    """One row per event, found by what happened and when."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_event(self, event: Event) -> None:
        with self._database.write() as connection:
            add_events(connection, [event])

    def list_events(
        self,
        *,
        service: str | None = None,
        subject: str | None = None,
        actions: Collection[str] | None = None,
        since: datetime | None = None,
        limit: int = 200,
    ) -> Sequence[Event]:
        c = EVENTS.c
        wanted = [c.service == service] if service is not None else []
        wanted += [c.subject == subject] if subject is not None else []
        wanted += [c.action.in_(sorted(actions))] if actions is not None else []
        wanted += [c.at > since] if since is not None else []
        query = sa.select(c.document).where(*wanted).order_by(c.seq.desc()).limit(limit)
        with self._database.read() as connection:
            return [decode(Event, row[0]) for row in connection.execute(query)]


def add_events(connection: sa.Connection, events: Sequence[Event]) -> None:
    """Append to the audit inside the caller's transaction."""
    if events:
        connection.execute(EVENTS.insert(), [_row(each) for each in events])
    for e in events:
        told = {"actor": e.actor, "subject": e.subject, "service": e.service}
        _log.info("%s: %s", e.action, e.reason, extra=ids(**told))


def _row(event: Event) -> dict[str, object]:
    return {
        "service": event.service,
        "subject": event.subject,
        "action": event.action,
        "at": event.at,
        "document": event.model_dump_json(),
    }
