"""Studies are claimed: one tuner worker holds one study, and says so again and again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.documents import Documents, decode
from controlplane.adapters.store_sql.tables import STUDIES
from controlplane.domain.base import StudyId
from controlplane.domain.study import Study, StudyState
from controlplane.ports import StudyClaim, Versioned


def study_columns(study: Study) -> Mapping[str, Any]:
    """What a study puts into the searchable columns. The claim's columns are not among them: a save keeps the claim."""
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
        """Take the oldest study nobody works on; None if there is none. Two claimants never get the same one."""
        claimable = _claimable(now - timedelta(seconds=lease_s))
        oldest = sa.select(STUDIES).where(claimable).order_by(STUDIES.c.seq).limit(1)
        if not self._database.is_sqlite:
            oldest = oldest.with_for_update(skip_locked=True)  # SQLite lets one writer in at a time anyway
        with self._database.write() as connection:
            row = connection.execute(oldest).one_or_none()
            if row is None:
                return None
            study = decode(Study, row.document)
            taken = study.evolve(state=StudyState.RUNNING, started_at=study.started_at or now)
            changes = {**self._row(taken), "version": row.version + 1, "worker": worker, "heartbeat_at": now}
            connection.execute(STUDIES.update().where(STUDIES.c.seq == row.seq).values(changes))
        return Versioned(taken, row.version + 1)

    def heartbeat(self, study_id: StudyId, worker: str, *, now: datetime) -> bool:
        """Renew a claim; False when it is not this worker's any more."""
        with self._database.write() as connection:
            held = STUDIES.update().where(STUDIES.c.study_id == study_id, STUDIES.c.worker == worker)
            return connection.execute(held.values(heartbeat_at=now)).rowcount == 1

    def release(self, study_id: StudyId, worker: str) -> None:
        """Give a claim back, if it is still this worker's."""
        with self._database.write() as connection:
            held = STUDIES.update().where(STUDIES.c.study_id == study_id, STUDIES.c.worker == worker)
            connection.execute(held.values(worker=None, heartbeat_at=None))

    def holder(self, study_id: StudyId) -> StudyClaim | None:
        """Return who holds the study, None when nobody does."""
        query = sa.select(STUDIES.c.worker, STUDIES.c.heartbeat_at).where(STUDIES.c.study_id == study_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None or row.worker is None else StudyClaim(row.worker, row.heartbeat_at)


def _claimable(stale_before: datetime) -> sa.ColumnElement[bool]:
    silent = sa.or_(STUDIES.c.heartbeat_at.is_(None), STUDIES.c.heartbeat_at < stale_before)
    running = sa.and_(STUDIES.c.state == StudyState.RUNNING.value, silent)
    return sa.or_(STUDIES.c.state == StudyState.PENDING.value, running)
