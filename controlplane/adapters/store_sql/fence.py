"""The number of the controller that leads, which its writes carry: one that was taken over is refused."""

from __future__ import annotations

import sqlalchemy as sa

from controlplane.adapters.store_sql.tables import COUNTERS
from controlplane.domain.errors import Deposed

LEADER = "leader"
"""The counter whose newest number is the present leader's."""


def refuse_deposed(connection: sa.Connection, number: int) -> None:
    """Raise Deposed unless `number` is the newest. The row stays locked: nobody takes over within the transaction."""
    newest = sa.select(COUNTERS.c.value).where(COUNTERS.c.name == LEADER).with_for_update(read=True)
    leader = connection.execute(newest).scalar_one_or_none()
    if leader != number:
        raise Deposed("nothing was saved", why=f"controller number {leader} leads, this one was number {number}")
