"""What a study recommends as a commit: for services whose manifests another tool applies (`kubernetes.commit`).

A worker's duty, as git may take a minute and a pass of the controller may not. The commit comes first and the study is
saved after it: whoever is killed in between finds, at the next try, that the file says so already.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from controlplane.domain.base import StudyId
from controlplane.domain.cluster import CommitOptions
from controlplane.domain.errors import Conflict, FleetuneError, InvalidInput, StaleVersion
from controlplane.domain.event import Event
from controlplane.domain.revision import Revision
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Recommendation, Study
from controlplane.ports import Clock
from controlplane.ports.manifests import ManifestRepository
from controlplane.ports.store import Store, Versioned
from controlplane.services.capacities import with_start_budget
from controlplane.services.rollouts.manage import revision_of

AGAIN_S = 60.0
"""How long after a failure the next try comes: a branch is not asked all the time."""

OpenRepository = Callable[[CommitOptions], ManifestRepository]
Render = Callable[[ServiceSpec, Revision, int], str]
"""Manifests of a revision with so many replicas, as `fleetune render --revision` prints them."""


class CommitKeeper:
    """Holds when it last failed, by study."""

    def __init__(self, *, store: Store, open_repository: OpenRepository, render: Render, clock: Clock) -> None:
        self._store, self._open, self._render, self._clock = store, open_repository, render, clock
        self._failed_at: dict[StudyId, datetime] = {}

    def run_next(self) -> bool:
        """Commit the next recommendation that is to be committed; False when there was none."""
        now = self._clock()
        return any(self._tried(*each, now) for each in self._store.studies_to_apply() if self._is_due(each, now))

    def _is_due(self, row: Versioned[Study], now: datetime) -> bool:
        failed_at = self._failed_at.get(row.value.study_id)
        is_early = failed_at is not None and 0 <= (now - failed_at).total_seconds() < AGAIN_S
        return not is_early and commits(self._store.get_service(row.value.service).value.spec) is not None

    def _tried(self, study: Study, version: int, now: datetime) -> bool:
        """Say of a failure once for each reason; the next try comes later."""
        try:
            self._commit(study, version, now)
        except StaleVersion:  # another worker was faster, to the same end
            return True
        except FleetuneError as error:
            self._failed_at[study.study_id] = now
            self._tell_once(study, str(error), now)
            return False
        return True

    def _commit(self, study: Study, version: int, now: datetime) -> None:
        found, spec = study.recommendation, self._store.get_service(study.service).value.spec
        where = commits(spec)
        assert found is not None, "only studies with an improvement wait to be applied"
        assert where is not None, "only services with a repository are due"
        named = revision_of(spec, found.config, now=now, study_id=study.study_id)
        revision = with_start_budget(self._store, named, spec)
        text = self._render(spec, revision, found.fleet.replicas)
        self._store.add_revision(revision)
        path, subject = f"{where.folder}/{study.service}.yaml", _subject(study, found, revision.revision_id)
        commit = self._open(where).write(path, text, subject=subject)
        applied = study.evolve(recommendation=found.evolve(applied_revision=revision.revision_id))
        reason = f"{revision.revision_id} is commit {commit} on {where.branch} of {where.repository}"
        self._store.save_study(applied, version, events=[_event(study, "study.committed", reason, now)])

    def _tell_once(self, study: Study, reason: str, now: datetime) -> None:
        told = self._store.list_events(subject=f"study/{study.study_id}", limit=1)
        if not told or (told[0].action, told[0].reason) != ("study.not_committed", reason):
            self._store.add_event(_event(study, "study.not_committed", reason, now))


def commits(spec: ServiceSpec) -> CommitOptions | None:
    """Return where what is recommended for a service is committed, None when it is rolled out here."""
    return None if spec.kubernetes is None else spec.kubernetes.commit


def ask_for_commit(store: Store, study_id: StudyId, *, actor: str, now: datetime) -> Recommendation:
    """Let a worker commit what a study recommends.

    Raises NotFound, InvalidInput for a service without a repository, Conflict when nothing is left to commit.
    """
    study, version = store.get_study(study_id)
    if commits(store.get_service(study.service).value.spec) is None:
        raise InvalidInput(
            f"service {study.service} commits nothing",
            why="its kubernetes section has no `commit`",
            allowed=f"fleetune recommendation apply {study_id}, or kubernetes.commit: {{repository: ..., branch: ...}}",
        )
    found = study.recommendation
    if found is None or not found.improvement:
        raise Conflict(f"study {study_id} has nothing to commit", why="it found no improvement")
    if found.applied_revision is not None:
        raise Conflict(f"study {study_id} was applied already", why=f"as revision {found.applied_revision}")
    if not study.apply_when_done:
        asked = _event(study, "study.to_commit", "a worker commits it", now, actor)
        store.save_study(study.evolve(apply_when_done=True), version, events=[asked])
    return found


def _subject(study: Study, found: Recommendation, revision: str) -> str:
    return f"Run {revision} of {study.service} on {found.fleet.replicas} replicas, as study {study.study_id} recommends"


def _event(study: Study, action: str, reason: str, now: datetime, actor: str = "worker") -> Event:
    subject = f"study/{study.study_id}"
    return Event(at=now, actor=actor, action=action, subject=subject, service=study.service, reason=reason)
