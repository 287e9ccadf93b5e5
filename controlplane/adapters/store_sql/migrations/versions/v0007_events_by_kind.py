"""Events are found by what happened and when: how many engines failed lately is asked at each scrape and each look."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_AT_ONCE = 1000
_EVENTS = sa.table(
    "fleetune_events",
    sa.column("seq", sa.BigInteger()),
    sa.column("document", sa.Text()),
    sa.column("action", sa.Text()),
    sa.column("at", sa.Double()),
)


def upgrade() -> None:
    op.add_column("fleetune_events", sa.Column("action", sa.Text()))
    op.add_column("fleetune_events", sa.Column("at", sa.Double()))
    connection, last = op.get_bind(), 0
    while rows := _next(connection, last):
        connection.execute(_filled(), [_kind(row) for row in rows])
        last = rows[-1].seq
    op.create_index("fleetune_events_by_kind", "fleetune_events", ["action", "at"])


def downgrade() -> None:
    op.drop_index("fleetune_events_by_kind", "fleetune_events")
    op.drop_column("fleetune_events", "at")
    op.drop_column("fleetune_events", "action")


def _next(connection: sa.Connection, last: int) -> list[Any]:
    query = sa.select(_EVENTS.c.seq, _EVENTS.c.document).where(_EVENTS.c.seq > last).order_by(_EVENTS.c.seq)
    return list(connection.execute(query.limit(_AT_ONCE)))


def _filled() -> sa.Update:
    of = _EVENTS.c.seq == sa.bindparam("of")
    return _EVENTS.update().where(of).values(action=sa.bindparam("kind"), at=sa.bindparam("moment"))


def _kind(row: Any) -> dict[str, Any]:
    """An event that cannot be read has neither: it stops the store from being opened no more than before."""
    try:
        document = json.loads(row.document)
        return {"of": row.seq, "kind": document["action"], "moment": datetime.fromisoformat(document["at"]).timestamp()}
    except (ValueError, KeyError, TypeError):
        return {"of": row.seq, "kind": None, "moment": None}
