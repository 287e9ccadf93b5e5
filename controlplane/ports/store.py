"""What is kept: every write guarded by the version it replaces."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar

from controlplane.domain.ab_tests.ab_test import AbTest, AbTestId
from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId, TrialId
from controlplane.domain.door.identity import Credential
from controlplane.domain.event import Event
from controlplane.domain.models import RegisteredModel
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.report import LoadTestReport
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.schedule import Schedule
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import Study, Trial

T = TypeVar("T")


class Versioned(NamedTuple, Generic[T]):
    """A stored value with the version to give back when saving it."""

    value: T
    version: int


class StudyClaim(NamedTuple):
    """One tuner worker that works on a study, and when it last said so."""

    worker: str
    heartbeat_at: datetime


class StoredReplay(NamedTuple):
    report_id: str
    at: datetime
    point: ReplayPoint
    report: LoadTestReport


class Store(Protocol):
    """Everything that must survive a crash. Writes are guarded: `save_*` with the version read, 0 for a new one.

    `save_*` returns the new version and raises StaleVersion when somebody else saved in between. `events` given to a
    save are kept in the same transaction: both or neither. `get_*` raises NotFound. Lists are newest first unless they
    say otherwise. Every method raises Unavailable when the store cannot be reached, written or read.
    """

    def get_service(self, name: ServiceName) -> Versioned[Service]: ...
    def list_services(self) -> Sequence[Versioned[Service]]: ...
    def save_service(
        self,
        service: Service,
        version: int,
        *,
        schedules: Sequence[Versioned[Schedule]] = (),
        events: Sequence[Event] = (),
    ) -> int:
        """Save it and, in the same transaction, schedules of it, each guarded by its own version: all or nothing.

        Raises Conflict when another service has this model name.
        """

    def get_study(self, study_id: StudyId) -> Versioned[Study]: ...
    def list_studies(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[Study]]: ...
    def save_study(self, study: Study, version: int, *, events: Sequence[Event] = ()) -> int: ...
    def studies_to_apply(self) -> Sequence[Versioned[Study]]:
        """DONE studies with `apply_when_done` whose improvement was not applied yet, oldest first."""

    def claim_study(self, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        """Take the oldest PENDING study, or a RUNNING one that no worker holds whose heartbeat is younger than
        `lease_s`; None if none.

        The study comes back RUNNING, with `started_at` set the first time. No two workers get the same PENDING one.
        """

    def join_study(self, study_id: StudyId, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        """Work on this study beside whoever holds it; None when it is neither PENDING nor RUNNING.

        Claims older than `lease_s` are dropped on the way: those workers are lost.
        """

    def heartbeat(self, study_id: StudyId, worker: str, *, now: datetime) -> bool:
        """Renew a claim. False when it was dropped: stop working on the study."""

    def release_study(self, study_id: StudyId, worker: str) -> None: ...
    def study_claims(self, study_id: StudyId) -> Sequence[StudyClaim]:
        """Who holds the study, by name, the lost not yet dropped included; empty when nobody does or it is unknown."""

    def get_trial(self, trial_id: TrialId) -> Versioned[Trial]: ...
    def list_trials(self, study_id: StudyId) -> Sequence[Versioned[Trial]]:
        """Oldest first."""

    def save_trial(self, trial: Trial, version: int) -> int: ...

    def get_revision(self, revision_id: RevisionId) -> Revision: ...
    def list_revisions(self, service: ServiceName) -> Sequence[Revision]: ...
    def add_revision(self, revision: Revision) -> None:
        """Keep a revision; the same one again is fine (immutable, named by content)."""

    def get_rollout(self, rollout_id: RolloutId) -> Versioned[Rollout]: ...
    def list_rollouts(
        self, service: ServiceName | None = None, *, limit: int = 100
    ) -> Sequence[Versioned[Rollout]]: ...
    def save_rollout(self, rollout: Rollout, version: int, *, events: Sequence[Event] = ()) -> int:
        """Raises Conflict when the service already has another rollout that is not final."""

    def get_ab_test(self, test_id: AbTestId) -> Versioned[AbTest]: ...
    def list_ab_tests(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[AbTest]]: ...
    def save_ab_test(self, test: AbTest, version: int, *, events: Sequence[Event] = ()) -> int:
        """Raises Conflict when the service already has another test that is not over."""

    def list_schedules(self, service: ServiceName | None = None) -> Sequence[Versioned[Schedule]]: ...
    def save_schedule(self, schedule: Schedule, version: int, *, events: Sequence[Event] = ()) -> int: ...
    def delete_schedule(self, service: ServiceName, name: str, *, events: Sequence[Event] = ()) -> None:
        """Forget it; the events are kept if there was such a one."""

    def list_credentials(self) -> Sequence[Versioned[Credential]]:
        """API keys, oldest first, the revoked among them."""

    def save_credential(self, credential: Credential, version: int, *, events: Sequence[Event] = ()) -> int: ...

    def get_model(self, name: str) -> Versioned[RegisteredModel]: ...
    def list_models(self) -> Sequence[Versioned[RegisteredModel]]: ...
    def save_model(self, model: RegisteredModel, version: int, *, events: Sequence[Event] = ()) -> int: ...

    def add_event(self, event: Event) -> None: ...
    def list_events(
        self,
        *,
        service: str | None = None,
        subject: str | None = None,
        actions: Collection[str] | None = None,
        since: datetime | None = None,
        limit: int = 200,
    ) -> Sequence[Event]:
        """The newest first. None: of all. `actions`: only what is called so, `since`: only what came after that moment;
        together they are looked up, however many other events there are."""

    def add_load_report(
        self,
        report_id: str,
        service: ServiceName | None,
        report: LoadTestReport,
        at: datetime,
        *,
        replay: ReplayPoint | None = None,
    ) -> None:
        """Keep a report; with `replay` it is a point of a schedule's series. Raises Conflict when the id is taken."""

    def get_load_report(self, report_id: str) -> LoadTestReport: ...
    def list_load_reports(
        self, service: ServiceName | None = None, *, limit: int = 100
    ) -> Sequence[tuple[str, datetime, LoadTestReport]]: ...

    def list_replays(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[StoredReplay]: ...

    def next_number(self, name: str) -> int:
        """Return 1, 2, 3, ... per name, never the same twice (versions of the routing table, ids)."""

    def read_setting(self, name: str) -> Versioned[str] | None: ...
    def write_setting(self, name: str, value: str, version: int) -> int:
        """Guarded as `save_*` is."""
