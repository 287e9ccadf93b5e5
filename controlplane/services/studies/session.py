"""One worker's hold on one study that others may share: guarded saves, the heartbeat, letting go when told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from controlplane.domain.base import StudyId, TrialId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import StaleVersion
from controlplane.domain.event import Event
from controlplane.domain.report import Validity
from controlplane.domain.studies.study import (
    STUDY_FINAL,
    STUDY_LEASE_S,
    Level,
    Study,
    StudyState,
    Trial,
    TrialKind,
    TrialState,
)
from controlplane.ports import Clock
from controlplane.ports.store import Store, StudyClaim
from controlplane.services.studies.heartbeat import BEAT_EVERY_S, Heartbeat
from controlplane.services.studies.trial_engine import Interrupted
from tuner.answer.attempts import waiting

_LOOK_EVERY = timedelta(seconds=BEAT_EVERY_S)
_SAVE_ATTEMPTS = 20


def living(claims: Iterable[StudyClaim], *, now: datetime) -> frozenset[str]:
    """Return the workers whose heartbeat is young enough."""
    return frozenset(claim.worker for claim in claims if claim.heartbeat_at >= now - timedelta(seconds=STUDY_LEASE_S))


def _kept_levels(trial: Trial) -> tuple[Level, ...]:
    """A ladder begins anew with its engine; each level of a fleet check stands for itself."""
    if trial.kind is not TrialKind.CONFIRM_FLEET:
        return ()
    return tuple(level for level in trial.levels if level.report.validity is Validity.VALID)


class StudySession:
    """The study, and its trials as this worker last read or saved them."""

    def __init__(self, store: Store, study_id: StudyId, *, worker: str, host: str, clock: Clock) -> None:
        self._store = store
        self._worker = worker
        self._host = host
        self._clock = clock
        self._study_id = study_id
        self._versions: dict[TrialId, int] = {}
        self._trials: dict[TrialId, Trial] = {}
        self._beat_at: datetime | None = None
        self._heart: Heartbeat | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the trials again: other workers begin and finish some."""
        for trial, version in self._store.list_trials(self._study_id):
            self._keep(trial, version)

    def others(self) -> frozenset[str]:
        """Return the living workers beside this one. What this one left running before, it lost."""
        return living(self._store.study_claims(self._study_id), now=self._clock()) - {self._worker}

    @property
    def study(self) -> Study:
        """The study as it is in the store now (others pause and abort it)."""
        return self._store.get_study(self._study_id).value

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials by number."""
        return tuple(sorted(self._trials.values(), key=lambda trial: trial.number))

    def change_study(self, change: Callable[[Study], Study], *events: Event) -> Study:
        """Load, change and save the study; again when somebody else saved in between. One that is over stays so."""
        for _ in range(_SAVE_ATTEMPTS):
            study, version = self._store.get_study(self._study_id)
            if study.state in STUDY_FINAL:
                return study
            changed = change(study)
            try:
                self._store.save_study(changed, version, events=events)
            except StaleVersion:
                continue
            return changed
        raise StaleVersion(f"study {self._study_id} changes faster than it can be saved")

    def new_trial(
        self,
        kind: TrialKind,
        config: EngineConfig,
        *,
        replicas: int = 1,
        optuna_number: int | None = None,
        predicted: Mapping[str, float] | None = None,
    ) -> Trial:
        """Return and save the next trial, running. Raises StaleVersion when another worker began it since `refresh`."""
        number = len(self._trials)
        trial = Trial(
            trial_id=TrialId(f"{self._study_id}-{number}"),
            study_id=self._study_id,
            number=number,
            kind=kind,
            config=config,
            replicas=replicas,
            state=TrialState.RUNNING,
            predicted=dict(predicted or {}),
            started_at=self._clock(),
            worker=self._worker,
            host=self._host,
            heartbeat_at=self._clock(),
            optuna_number=optuna_number,
        )
        self._save(trial)
        return trial

    def again(self, trial: Trial, *, optuna_number: int | None) -> Trial:
        """Return and save a trial whose experiment broke, running anew, as this one of the search's record.

        Raises StaleVersion when another does it.
        """
        fresh = trial.evolve(
            state=TrialState.RUNNING,
            first_started_at=trial.first_started_at or trial.started_at,
            attempt=trial.attempt + 1,
            optuna_number=optuna_number,
            levels=_kept_levels(trial),
            start_failure=None,
            reason=None,
            waited_s=0.0,
            startup_s=None,
            warm_up=None,
            started_at=self._clock(),
            finished_at=None,
            worker=self._worker,
            host=self._host,
            heartbeat_at=self._clock(),
        )
        self._save(fresh)
        return fresh

    def save_trial(self, trial: Trial) -> None:
        """Save a trial that this worker runs. Raises Interrupted when another worker took it over."""
        try:
            self._save(trial.evolve(heartbeat_at=self._clock()))
        except StaleVersion as error:
            raise Interrupted("another worker took the trial") from error

    def close(self, trial: Trial) -> None:
        """Save the end of anybody's trial, unless somebody else changed it."""
        try:
            self._save(trial)
        except StaleVersion:
            return

    def _save(self, trial: Trial) -> None:
        version = self._store.save_trial(trial, self._versions.get(trial.trial_id, 0))
        self._keep(trial, version)

    def beating(self, *, every_s: float = BEAT_EVERY_S) -> Heartbeat:
        """Renew the claim in a thread while inside, whatever this worker waits for meanwhile."""
        self._heart = Heartbeat(self._beat, every_s=every_s)
        return self._heart

    def check(self) -> None:
        """Raise Interrupted when the claim was dropped or the study is over, as the last beat saw it."""
        told = None if self._heart is None else self._heart.told
        if told is None and (self._beat_at is None or abs(self._clock() - self._beat_at) >= _LOOK_EVERY):
            told = self._beat()
        if told is not None:
            raise Interrupted(told)

    def _beat(self) -> str | None:
        """Renew the claim; return why to let go of the study, if so."""
        self._beat_at = self._clock()
        if not self._store.heartbeat(self._study_id, self._worker, now=self._beat_at):
            return "this worker was taken for lost"
        study = self.study
        return f"the study is {study.state}" if study.state in STUDY_FINAL else None

    def event(self, action: str, reason: str, **details: str | int | float | bool | None) -> Event:
        """Return an event of this study by this worker."""
        return Event(
            at=self._clock(),
            actor=f"worker/{self._worker}",
            action=action,
            subject=f"study/{self._study_id}",
            service=self.study.service,
            reason=reason,
            details=details,
        )

    def waits(self, trial: Trial) -> tuple[Event, ...]:
        """Return what is told of a trial that waits for its place to come back; nothing of any other."""
        why = waiting([trial])
        return () if why is None else (self.event("trial.waits", why, number=trial.number, attempt=trial.attempt),)

    def tell(self, event: Event) -> None:
        """Keep an event that goes with no change of the study."""
        self._store.add_event(event)

    def is_paused(self) -> bool:
        return self.study.state is StudyState.PAUSED

    def _keep(self, trial: Trial, version: int) -> None:
        self._trials[trial.trial_id] = trial
        self._versions[trial.trial_id] = version
