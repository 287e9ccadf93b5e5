"""The Store port in memory: the same guards and orders as the real one, nothing survives the process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from controlplane.domain.ab_tests.ab_test import AbTest, AbTestId
from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId, TrialId, Value
from controlplane.domain.door.identity import Credential
from controlplane.domain.errors import Conflict, NotFound, StaleVersion
from controlplane.domain.event import Event
from controlplane.domain.models import RegisteredModel
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.report import LoadTestReport
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout
from controlplane.domain.schedule import Schedule
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import Study, StudyState, Trial
from controlplane.domain.taken import ab_test_is_under_way, model_is_taken, report_is_taken, setting_is_stale
from controlplane.ports.store import StoredReplay, StudyClaim, Versioned
from tests.fakes.shelf import Shelf

V = TypeVar("V", bound=Value)


class FakeStore:
    """Implements `ports.Store` for tests; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._services: Shelf[Service] = Shelf("service", lambda s: (s.name,))
        self._studies: Shelf[Study] = Shelf("study", lambda s: (s.study_id,))
        self._trials: Shelf[Trial] = Shelf("trial", lambda t: (t.trial_id,))
        self._rollouts: Shelf[Rollout] = Shelf("rollout", lambda r: (r.rollout_id,))
        self._schedules: Shelf[Schedule] = Shelf("schedule", lambda s: (s.service, s.spec.name))
        self._credentials: Shelf[Credential] = Shelf("credential", lambda c: (c.key.name,))
        self._ab_tests: Shelf[AbTest] = Shelf("A/B test", lambda t: (t.test_id,))
        self._models: Shelf[RegisteredModel] = Shelf("model", lambda m: (m.name,))
        self._claims: dict[tuple[StudyId, str], StudyClaim] = {}
        self._revisions: dict[RevisionId, Revision] = {}
        self._events: list[Event] = []
        self._reports: dict[str, tuple[ServiceName | None, datetime, LoadTestReport]] = {}
        self._numbers: Counter[str] = Counter()
        self._settings: dict[str, Versioned[str]] = {}
        self._points: dict[str, ReplayPoint] = {}

    def get_service(self, name: ServiceName) -> Versioned[Service]:
        return self._services.get(name)

    def list_services(self) -> Sequence[Versioned[Service]]:
        return self._services.newest()

    def save_service(
        self,
        service: Service,
        version: int,
        *,
        schedules: Sequence[Versioned[Schedule]] = (),
        events: Sequence[Event] = (),
    ) -> int:
        with self._lock:
            for other, _ in self.list_services():
                if other.name != service.name and other.spec.model.name == service.spec.model.name:
                    raise model_is_taken(service.spec.model.name, by=other.name)
            before = dict(self._schedules.rows)
            try:
                for schedule, of in schedules:
                    self._schedules.save(schedule, of)
                return self._save(self._services, service, version, events)
            except StaleVersion:
                self._schedules.rows = before
                raise

    def get_study(self, study_id: StudyId) -> Versioned[Study]:
        return self._studies.get(study_id)

    def list_studies(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[Study]]:
        return self._studies.newest(lambda s: service in (None, s.service), limit)

    def save_study(self, study: Study, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._save(self._studies, study, version, events)

    def studies_to_apply(self) -> Sequence[Versioned[Study]]:
        return self._studies.newest(_waits_to_be_applied)[::-1]

    def claim_study(self, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        with self._lock:
            claimable = self._studies.newest(lambda s: self._is_claimable(s, now - timedelta(seconds=lease_s)))
            if not claimable:
                return None
            return self._take(*claimable[-1], worker, now=now, lease_s=lease_s)

    def join_study(self, study_id: StudyId, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        with self._lock:
            found = self._studies.rows.get((study_id,))
            if found is None or found.value.state not in (StudyState.PENDING, StudyState.RUNNING):
                return None
            return self._take(*found, worker, now=now, lease_s=lease_s)

    def _take(self, study: Study, version: int, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study]:
        taken = study.evolve(state=StudyState.RUNNING, started_at=study.started_at or now)
        for claim in self.study_claims(study.study_id):
            if claim.heartbeat_at < now - timedelta(seconds=lease_s):
                del self._claims[study.study_id, claim.worker]
        self._claims[study.study_id, worker] = StudyClaim(worker, now)
        return Versioned(taken, self._studies.save(taken, version))

    def _is_claimable(self, study: Study, stale_before: datetime) -> bool:
        silent = all(claim.heartbeat_at < stale_before for claim in self.study_claims(study.study_id))
        return study.state is StudyState.PENDING or (study.state is StudyState.RUNNING and silent)

    def heartbeat(self, study_id: StudyId, worker: str, *, now: datetime) -> bool:
        with self._lock:
            if (study_id, worker) not in self._claims:
                return False
            self._claims[study_id, worker] = StudyClaim(worker, now)
            return True

    def release_study(self, study_id: StudyId, worker: str) -> None:
        with self._lock:
            self._claims.pop((study_id, worker), None)

    def study_claims(self, study_id: StudyId) -> Sequence[StudyClaim]:
        with self._lock:
            return [claim for (of, _), claim in sorted(self._claims.items()) if of == study_id]

    def get_trial(self, trial_id: TrialId) -> Versioned[Trial]:
        return self._trials.get(trial_id)

    def list_trials(self, study_id: StudyId) -> Sequence[Versioned[Trial]]:
        return self._trials.newest(lambda t: t.study_id == study_id)[::-1]

    def save_trial(self, trial: Trial, version: int) -> int:
        return self._save(self._trials, trial, version, ())

    def get_revision(self, revision_id: RevisionId) -> Revision:
        if revision_id not in self._revisions:
            raise NotFound(f"no revision '{revision_id}'")
        return self._revisions[revision_id]

    def list_revisions(self, service: ServiceName) -> Sequence[Revision]:
        return [revision for revision in reversed(self._revisions.values()) if revision.service == service]

    def add_revision(self, revision: Revision) -> None:
        with self._lock:
            self._revisions.setdefault(revision.revision_id, revision)

    def get_rollout(self, rollout_id: RolloutId) -> Versioned[Rollout]:
        return self._rollouts.get(rollout_id)

    def list_rollouts(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[Rollout]]:
        return self._rollouts.newest(lambda r: service in (None, r.service), limit)

    def save_rollout(self, rollout: Rollout, version: int, *, events: Sequence[Event] = ()) -> int:
        with self._lock:
            others = [row.value for row in self.list_rollouts(rollout.service) if row.value.state not in ROLLOUT_FINAL]
            if version == 0 and any(other.rollout_id != rollout.rollout_id for other in others):
                raise Conflict(f"{rollout.service} already has a rollout under way", why=others[0].rollout_id)
            return self._save(self._rollouts, rollout, version, events)

    def get_ab_test(self, test_id: AbTestId) -> Versioned[AbTest]:
        return self._ab_tests.get(test_id)

    def list_ab_tests(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[AbTest]]:
        return self._ab_tests.newest(lambda t: service in (None, t.service), limit)

    def save_ab_test(self, test: AbTest, version: int, *, events: Sequence[Event] = ()) -> int:
        with self._lock:
            others = [row.value for row in self.list_ab_tests(test.service) if not row.value.is_over]
            if version == 0 and any(other.test_id != test.test_id for other in others):
                raise ab_test_is_under_way(others[0])
            return self._save(self._ab_tests, test, version, events)

    def list_schedules(self, service: ServiceName | None = None) -> Sequence[Versioned[Schedule]]:
        return self._schedules.newest(lambda s: service in (None, s.service))

    def save_schedule(self, schedule: Schedule, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._save(self._schedules, schedule, version, events)

    def delete_schedule(self, service: ServiceName, name: str, *, events: Sequence[Event] = ()) -> None:
        with self._lock:
            if self._schedules.rows.pop((service, name), None) is not None:
                self._events.extend(events)

    def get_model(self, name: str) -> Versioned[RegisteredModel]:
        return self._models.get(name)

    def list_models(self) -> Sequence[Versioned[RegisteredModel]]:
        return self._models.newest()

    def save_model(self, model: RegisteredModel, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._save(self._models, model, version, events)

    def add_event(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def list_credentials(self) -> Sequence[Versioned[Credential]]:
        return self._credentials.newest()[::-1]

    def save_credential(self, credential: Credential, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._save(self._credentials, credential, version, events)

    def list_events(
        self,
        *,
        service: str | None = None,
        subject: str | None = None,
        actions: Collection[str] | None = None,
        since: datetime | None = None,
        limit: int = 200,
    ) -> Sequence[Event]:
        wanted = (e for e in self._events if service in (None, e.service) and subject in (None, e.subject))
        wanted = (e for e in wanted if (actions is None or e.action in actions) and (since is None or e.at > since))
        return list(wanted)[::-1][:limit]

    def add_load_report(
        self,
        report_id: str,
        service: ServiceName | None,
        report: LoadTestReport,
        at: datetime,
        *,
        replay: ReplayPoint | None = None,
    ) -> None:
        with self._lock:
            if report_id in self._reports:
                raise report_is_taken(report_id)
            self._reports[report_id] = (service, at, report)
            if replay is not None:
                self._points[report_id] = replay

    def list_replays(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[StoredReplay]:
        rows = self.list_load_reports(service, limit=len(self._reports))
        points = self._points
        return [StoredReplay(name, at, points[name], report) for name, at, report in rows if name in points][:limit]

    def get_load_report(self, report_id: str) -> LoadTestReport:
        if report_id not in self._reports:
            raise NotFound(f"no load report '{report_id}'")
        return self._reports[report_id][2]

    def list_load_reports(
        self, service: ServiceName | None = None, *, limit: int = 100
    ) -> Sequence[tuple[str, datetime, LoadTestReport]]:
        rows = reversed(self._reports.items())
        return [(name, at, report) for name, (of, at, report) in rows if service in (None, of)][:limit]

    def next_number(self, name: str) -> int:
        with self._lock:
            self._numbers[name] += 1
            return self._numbers[name]

    def read_setting(self, name: str) -> Versioned[str] | None:
        return self._settings.get(name)

    def write_setting(self, name: str, value: str, version: int) -> int:
        with self._lock:
            present = self._settings.get(name)
            if (present.version if present else 0) != version:
                raise setting_is_stale(name)
            self._settings[name] = Versioned(value, version + 1)
            return version + 1

    def _save(self, shelf: Shelf[V], value: V, version: int, events: Sequence[Event]) -> int:
        with self._lock:
            saved = shelf.save(value, version)
            self._events.extend(events)
            return saved


def _waits_to_be_applied(study: Study) -> bool:
    found = study.recommendation
    if study.state is not StudyState.DONE or not study.apply_when_done or found is None:
        return False
    return found.improvement and found.applied_revision is None
