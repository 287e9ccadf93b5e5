"""One worker's hold on one study: guarded saves, the heartbeat, and letting go when told to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from controlplane.domain.base import StudyId, TrialId
from controlplane.domain.engine import EngineConfig
from controlplane.domain.errors import StaleVersion
from controlplane.domain.event import Event
from controlplane.domain.study import STUDY_FINAL, Study, StudyState, Trial, TrialKind, TrialState
from controlplane.ports import Clock, Store
from controlplane.services.run_trial import Interrupted

_BEAT_EVERY_S = 2.0
_SAVE_ATTEMPTS = 20


class StudySession:
    """The study and its trials as this worker last saved them."""

    def __init__(self, store: Store, study_id: StudyId, *, worker: str, clock: Clock) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock
        self._study_id = study_id
        self._versions: dict[TrialId, int] = {}
        self._trials: dict[TrialId, Trial] = {}
        self._beat_at: datetime | None = None
        for trial, version in store.list_trials(study_id):
            self._keep(trial, version)

    @property
    def study(self) -> Study:
        """The study as it is in the store now (others pause and abort it)."""
        return self._store.get_study(self._study_id).value

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials by number."""
        return tuple(sorted(self._trials.values(), key=lambda trial: trial.number))

    def change_study(self, change: Callable[[Study], Study], *events: Event) -> Study:
        """Load, change and save the study; again when somebody else saved in between."""
        for _ in range(_SAVE_ATTEMPTS):
            study, version = self._store.get_study(self._study_id)
            changed = change(study)
            try:
                self._store.save_study(changed, version, events=events)
            except StaleVersion:
                continue
            return changed
        raise StaleVersion(f"study {self._study_id} changes faster than it can be saved")

    def new_trial(self, kind: TrialKind, config: EngineConfig, *, optuna_number: int | None = None) -> Trial:
        """Return and save the next trial, running."""
        number = len(self._trials)
        trial = Trial(
            trial_id=TrialId(f"{self._study_id}-{number}"),
            study_id=self._study_id,
            number=number,
            kind=kind,
            config=config,
            state=TrialState.RUNNING,
            started_at=self._clock(),
            worker=self._worker,
            heartbeat_at=self._clock(),
            optuna_number=optuna_number,
        )
        self.save_trial(trial)
        return trial

    def again(self, trial: Trial) -> Trial:
        """Return and save a trial whose experiment broke, running anew."""
        fresh = trial.evolve(
            state=TrialState.RUNNING,
            attempt=trial.attempt + 1,
            levels=(),
            start_failure=None,
            reason=None,
            startup_s=None,
            started_at=self._clock(),
            finished_at=None,
            worker=self._worker,
            heartbeat_at=self._clock(),
        )
        self.save_trial(fresh)
        return fresh

    def save_trial(self, trial: Trial) -> None:
        """Save a trial. Raises StaleVersion when another worker has it."""
        version = self._store.save_trial(trial, self._versions.get(trial.trial_id, 0))
        self._keep(trial, version)

    def check(self) -> None:
        """Renew the claim now and then. Raises Interrupted when the study was taken over, aborted or is gone."""
        now = self._clock()
        if self._beat_at is not None and (now - self._beat_at).total_seconds() < _BEAT_EVERY_S:
            return
        self._beat_at = now
        if not self._store.heartbeat(self._study_id, self._worker, now=now):
            raise Interrupted("another worker took the study")
        study = self.study
        if study.state in STUDY_FINAL:
            raise Interrupted(f"the study is {study.state}")

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

    def tell(self, event: Event) -> None:
        """Keep an event that goes with no change of the study."""
        self._store.add_event(event)

    def is_paused(self) -> bool:
        return self.study.state is StudyState.PAUSED

    def _keep(self, trial: Trial, version: int) -> None:
        self._trials[trial.trial_id] = trial
        self._versions[trial.trial_id] = version
