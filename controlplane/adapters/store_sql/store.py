"""`SqlStore`: the Store port on one SQL database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controlplane.adapters.store_sql import schema
from controlplane.adapters.store_sql.ab_tests import SqlAbTests
from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.decoding import decode
from controlplane.adapters.store_sql.documents import Documents
from controlplane.adapters.store_sql.events import add_events
from controlplane.adapters.store_sql.studies import Studies
from controlplane.adapters.store_sql.tables import (
    API_KEYS,
    COUNTERS,
    LOAD_REPORTS,
    REVISIONS,
    ROLLOUTS,
    SCHEDULES,
    SERVICES,
    SETTINGS,
    STUDIES,
    TRIALS,
)
from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId, TrialId
from controlplane.domain.door.identity import Credential
from controlplane.domain.errors import Conflict, NotFound, StaleVersion
from controlplane.domain.event import Event
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.report import LoadTestReport
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout
from controlplane.domain.schedule import Schedule
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import Study, Trial
from controlplane.domain.taken import model_is_taken, report_is_taken, setting_is_stale
from controlplane.ports.store import StoredReplay, StudyClaim, Versioned


def open_store(url: str, *, leader: int | None = None) -> SqlStore:
    """Return the store at `url` (`sqlite:///FILE` or `postgresql://...`) with its tables at the newest schema.

    Raises InvalidInput for a URL that names no database, Unavailable when it cannot be reached, written or is too new.
    With `leader`, the number that a controller drew when it took the lead, a write raises Deposed once another did.
    """
    store = SqlStore(url, leader=leader)
    store.upgrade()
    return store


class SqlStore(SqlAbTests):
    """Implements `ports.Store`. Safe from several threads and processes; call `upgrade` once before anything else."""

    def __init__(self, url: str, *, leader: int | None = None) -> None:
        d = Database(url, leader=leader)
        super().__init__(d)
        self._insert, self._scalar = d.insert, d.scalar
        self._services = Documents(
            d, SERVICES, Service, key=("name",), columns=lambda s: {"name": s.name, "model": s.spec.model.name}
        )
        self._studies = Studies(d)
        self._trials = Documents(
            d, TRIALS, Trial, key=("trial_id",), columns=lambda t: {"trial_id": t.trial_id, "study_id": t.study_id}
        )
        self._rollouts = Documents(
            d,
            ROLLOUTS,
            Rollout,
            key=("rollout_id",),
            columns=lambda r: {"rollout_id": r.rollout_id, "service": r.service, "state": r.state.value},
        )
        self._schedules = Documents(
            d,
            SCHEDULES,
            Schedule,
            key=("service", "name"),
            columns=lambda s: {"service": s.service, "name": s.spec.name},
        )

        self._credentials = Documents(d, API_KEYS, Credential, key=("name",), columns=lambda c: {"name": c.key.name})

    @property
    def sqlalchemy_url(self) -> str:
        """The same database for Optuna. Holds the password."""
        return self._database.sqlalchemy_url

    def upgrade(self) -> str:
        """Create or upgrade the tables; returns the schema revision. Raises Unavailable."""
        return schema.upgrade(self._database)

    def close(self) -> None:
        """Close idle connections; the store can still be used."""
        self._database.close()

    def get_service(self, name: ServiceName) -> Versioned[Service]:
        return self._services.get(name)

    def list_services(self) -> Sequence[Versioned[Service]]:
        return self._services.find()

    def save_service(
        self,
        service: Service,
        version: int,
        *,
        schedules: Sequence[Versioned[Schedule]] = (),
        events: Sequence[Event] = (),
    ) -> int:
        try:
            with self._database.write() as connection:
                self._services.put(connection, service, version)
                self._schedules.put_all(connection, schedules)
                add_events(connection, events)
        except StaleVersion as lost:
            self._refuse_taken_model(service, lost)
            raise
        return version + 1

    def _refuse_taken_model(self, service: Service, lost: StaleVersion) -> None:
        for other, _ in self._services.find(SERVICES.c.model == service.spec.model.name):
            if other.name != service.name:
                raise model_is_taken(service.spec.model.name, by=other.name) from lost

    def get_study(self, study_id: StudyId) -> Versioned[Study]:
        return self._studies.get(study_id)

    def list_studies(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[Study]]:
        return self._studies.find(*_of(STUDIES.c.service, service), limit=limit)

    def save_study(self, study: Study, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._studies.save(study, version, events)

    def studies_to_apply(self) -> Sequence[Versioned[Study]]:
        return self._studies.find(STUDIES.c.to_apply, oldest_first=True)

    def claim_study(self, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        return self._studies.claim(worker, now=now, lease_s=lease_s)

    def join_study(self, study_id: StudyId, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        return self._studies.join(study_id, worker, now=now, lease_s=lease_s)

    def heartbeat(self, study_id: StudyId, worker: str, *, now: datetime) -> bool:
        return self._studies.heartbeat(study_id, worker, now=now)

    def release_study(self, study_id: StudyId, worker: str) -> None:
        self._studies.release(study_id, worker)

    def study_claims(self, study_id: StudyId) -> Sequence[StudyClaim]:
        return self._studies.holders(study_id)

    def get_trial(self, trial_id: TrialId) -> Versioned[Trial]:
        return self._trials.get(trial_id)

    def list_trials(self, study_id: StudyId) -> Sequence[Versioned[Trial]]:
        return self._trials.find(TRIALS.c.study_id == study_id, oldest_first=True)

    def save_trial(self, trial: Trial, version: int) -> int:
        return self._trials.save(trial, version)

    def get_revision(self, revision_id: RevisionId) -> Revision:
        document = self._scalar(sa.select(REVISIONS.c.document).where(REVISIONS.c.revision_id == revision_id))
        if document is None:
            raise NotFound(f"no revision '{revision_id}'")
        return decode(Revision, document)

    def list_revisions(self, service: ServiceName) -> Sequence[Revision]:
        query = sa.select(REVISIONS.c.document).where(REVISIONS.c.service == service)
        with self._database.read() as connection:
            return [decode(Revision, row[0]) for row in connection.execute(query.order_by(REVISIONS.c.seq.desc()))]

    def add_revision(self, revision: Revision) -> None:
        values = {
            "revision_id": revision.revision_id,
            "service": revision.service,
            "document": revision.model_dump_json(),
        }
        with self._database.write() as connection:
            connection.execute(self._insert(REVISIONS).values(values).on_conflict_do_nothing())

    def get_rollout(self, rollout_id: RolloutId) -> Versioned[Rollout]:
        return self._rollouts.get(rollout_id)

    def list_rollouts(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[Rollout]]:
        return self._rollouts.find(*_of(ROLLOUTS.c.service, service), limit=limit)

    def save_rollout(self, rollout: Rollout, version: int, *, events: Sequence[Event] = ()) -> int:
        try:
            return self._rollouts.save(rollout, version, events)
        except StaleVersion as lost:
            self._refuse_second(rollout, version, lost)
            raise

    def _refuse_second(self, rollout: Rollout, version: int, lost: StaleVersion) -> None:
        active = [v.value for v in self.list_rollouts(rollout.service) if v.value.state not in ROLLOUT_FINAL]
        if version == 0 and active and active[0].rollout_id != rollout.rollout_id:
            raise Conflict(
                f"{rollout.service} already has a rollout under way",
                why=f"{active[0].rollout_id} is {active[0].state.value}",
                allowed="wait for it, or abort it",
            ) from lost

    def list_schedules(self, service: ServiceName | None = None) -> Sequence[Versioned[Schedule]]:
        return self._schedules.find(*_of(SCHEDULES.c.service, service))

    def save_schedule(self, schedule: Schedule, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._schedules.save(schedule, version, events)

    def delete_schedule(self, service: ServiceName, name: str, *, events: Sequence[Event] = ()) -> None:
        self._schedules.delete(service, name, events=events)

    def list_credentials(self) -> Sequence[Versioned[Credential]]:
        return self._credentials.find(oldest_first=True)

    def save_credential(self, credential: Credential, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._credentials.save(credential, version, events)

    def add_load_report(
        self,
        report_id: str,
        service: ServiceName | None,
        report: LoadTestReport,
        at: datetime,
        *,
        replay: ReplayPoint | None = None,
    ) -> None:
        values = {"report_id": report_id, "service": service, "at": at, "document": report.model_dump_json()}
        values["replay"] = None if replay is None else replay.model_dump_json()
        with self._database.write() as connection:
            kept = self._insert(LOAD_REPORTS).values(values).on_conflict_do_nothing().returning(LOAD_REPORTS.c.seq)
            if connection.execute(kept).one_or_none() is None:
                raise report_is_taken(report_id)

    def get_load_report(self, report_id: str) -> LoadTestReport:
        document = self._scalar(sa.select(LOAD_REPORTS.c.document).where(LOAD_REPORTS.c.report_id == report_id))
        if document is None:
            raise NotFound(f"no load report '{report_id}'")
        return decode(LoadTestReport, document)

    def list_load_reports(
        self, service: ServiceName | None = None, *, limit: int = 100
    ) -> Sequence[tuple[str, datetime, LoadTestReport]]:
        c = LOAD_REPORTS.c
        query = sa.select(c.report_id, c.at, c.document).where(*_of(c.service, service)).order_by(c.seq.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [(row.report_id, row.at, decode(LoadTestReport, row.document)) for row in rows]

    def list_replays(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[StoredReplay]:
        c = LOAD_REPORTS.c
        of = [c.replay.is_not(None), *_of(c.service, service)]
        query = sa.select(c.report_id, c.at, c.replay, c.document).where(*of).order_by(c.seq.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [
            StoredReplay(row.report_id, row.at, decode(ReplayPoint, row.replay), decode(LoadTestReport, row.document))
            for row in rows
        ]

    def next_number(self, name: str) -> int:
        first = self._insert(COUNTERS).values(name=name, value=1)
        step = first.on_conflict_do_update(index_elements=["name"], set_={"value": COUNTERS.c.value + 1})
        with self._database.write() as connection:
            number: int = connection.execute(step.returning(COUNTERS.c.value)).scalar_one()
        return number

    def read_setting(self, name: str) -> Versioned[str] | None:
        with self._database.read() as connection:
            query = sa.select(SETTINGS.c.value, SETTINGS.c.version).where(SETTINGS.c.name == name)
            row = connection.execute(query).one_or_none()
        return None if row is None else Versioned(row.value, row.version)

    def write_setting(self, name: str, value: str, version: int) -> int:
        first = self._insert(SETTINGS).values(name=name, value=value, version=1).on_conflict_do_nothing()
        again = SETTINGS.update().where(SETTINGS.c.name == name, SETTINGS.c.version == version)
        with self._database.write() as connection:
            guarded = again.values(value=value, version=version + 1) if version else first
            if connection.execute(guarded.returning(SETTINGS.c.version)).one_or_none() is None:
                raise setting_is_stale(name)
        return version + 1


def _of(column: sa.ColumnElement[Any], wanted: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if wanted is None else [column == wanted]
