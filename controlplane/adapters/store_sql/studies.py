"""Studies are claimed by tuner workers, several of which may hold one study; each says so again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.decoding import decode
from controlplane.adapters.store_sql.documents import Documents
from controlplane.adapters.store_sql.tables import CLAIMS, STUDIES
from controlplane.domain.base import StudyId
from controlplane.domain.studies.study import Study, StudyState
from controlplane.ports.store import StudyClaim, Versioned


def study_columns(study: Study) -> Mapping[str, Any]:
    """What a study puts into the searchable columns."""
    return {
        "study_id": study.study_id,
        "service": study.service,
        "state": study.state.value,
        "to_apply": is_to_apply(study),
    }


def is_to_apply(study: Study) -> bool:
    """Say whether a finished study waits for its improvement to be rolled out."""
    found = study.recommendation
    waits = study.state is StudyState.DONE and study.apply_when_done
    return waits and found is not None and found.improvement and found.applied_revision is None


class Studies(Documents[Study]):
    def __init__(self, database: Database) -> None:
        super().__init__(database, STUDIES, Study, key=("study_id",), columns=study_columns)

    def claim(self, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        """Take the oldest study nobody works on; None if there is none. No two claimants get the same pending one."""
        stale_before = now - timedelta(seconds=lease_s)
        oldest = sa.select(STUDIES).where(_claimable(stale_before)).order_by(STUDIES.c.seq).limit(1)
        if not self._database.is_sqlite:
            oldest = oldest.with_for_update(skip_locked=True)  # SQLite lets one writer in at a time anyway
        with self._database.write() as connection:
            row = connection.execute(oldest).one_or_none()
            # Between the query's snapshot and its lock another may have taken the study: PostgreSQL then looks at the
            # row again, but not at the claims. The next statement sees them.
            while row is not None and row.state == StudyState.RUNNING.value and _is_held(connection, row, stale_before):
                row = connection.execute(oldest).one_or_none()
            return None if row is None else self._taken(connection, row, worker, now=now, lease_s=lease_s)

    def join(self, study_id: StudyId, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        """Take a study beside others; None when it is not to be worked on."""
        named = sa.select(STUDIES).where(STUDIES.c.study_id == study_id, STUDIES.c.state.in_(_UNDER_WAY))
        if not self._database.is_sqlite:
            named = named.with_for_update()
        with self._database.write() as connection:
            row = connection.execute(named).one_or_none()
            return None if row is None else self._taken(connection, row, worker, now=now, lease_s=lease_s)

    def heartbeat(self, study_id: StudyId, worker: str, *, now: datetime) -> bool:
        """Renew a claim; False when it was dropped."""
        with self._database.write() as connection:
            held = CLAIMS.update().where(CLAIMS.c.study_id == study_id, CLAIMS.c.worker == worker)
            return connection.execute(held.values(heartbeat_at=now)).rowcount == 1

    def release(self, study_id: StudyId, worker: str) -> None:
        """Give a claim back, if it is still there."""
        with self._database.write() as connection:
            connection.execute(CLAIMS.delete().where(CLAIMS.c.study_id == study_id, CLAIMS.c.worker == worker))

    def holders(self, study_id: StudyId) -> Sequence[StudyClaim]:
        """Return who holds the study, by name."""
        query = sa.select(CLAIMS.c.worker, CLAIMS.c.heartbeat_at).where(CLAIMS.c.study_id == study_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(CLAIMS.c.worker)).all()
        return [StudyClaim(row.worker, row.heartbeat_at) for row in rows]

    def _taken(
        self, connection: sa.Connection, row: sa.Row[Any], worker: str, *, now: datetime, lease_s: float
    ) -> Versioned[Study]:
        study = decode(Study, row.document)
        taken = study.evolve(state=StudyState.RUNNING, started_at=study.started_at or now)
        changes = {**self._row(taken), "version": row.version + 1}
        connection.execute(STUDIES.update().where(STUDIES.c.seq == row.seq).values(changes))
        _replace_claim(connection, study.study_id, worker, now=now, lease_s=lease_s)
        return Versioned(taken, row.version + 1)


_UNDER_WAY = (StudyState.PENDING.value, StudyState.RUNNING.value)


def _replace_claim(connection: sa.Connection, study_id: StudyId, worker: str, *, now: datetime, lease_s: float) -> None:
    """Write a worker's claim anew and drop those of the lost."""
    lost = CLAIMS.c.heartbeat_at < now - timedelta(seconds=lease_s)
    gone = CLAIMS.delete().where(CLAIMS.c.study_id == study_id, sa.or_(lost, CLAIMS.c.worker == worker))
    connection.execute(gone)
    connection.execute(CLAIMS.insert().values(study_id=study_id, worker=worker, heartbeat_at=now))


def _is_held(connection: sa.Connection, row: sa.Row[Any], stale_before: datetime) -> bool:
    living = sa.select(CLAIMS.c.worker).where(CLAIMS.c.study_id == row.study_id, CLAIMS.c.heartbeat_at >= stale_before)
    return connection.execute(living.limit(1)).one_or_none() is not None


def _claimable(stale_before: datetime) -> sa.ColumnElement[bool]:
    alive = sa.exists().where(CLAIMS.c.study_id == STUDIES.c.study_id, CLAIMS.c.heartbeat_at >= stale_before)
    forsaken = sa.and_(STUDIES.c.state == StudyState.RUNNING.value, ~alive)
    return sa.or_(STUDIES.c.state == StudyState.PENDING.value, forsaken)
