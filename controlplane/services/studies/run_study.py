"""A study from its claim to its recommendation. Everything it needs to go on after kill -9 is in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.base import StudyId
from controlplane.domain.errors import InvalidInput, StaleVersion
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import (
    STUDY_FINAL,
    STUDY_LEASE_S,
    Study,
    StudyState,
    Trial,
    TrialKind,
    TrialState,
)
from controlplane.ports import Clock
from controlplane.ports.adapters import AdapterLoader
from controlplane.ports.fleet import Fleet
from controlplane.ports.gateways import GatewayOpener
from controlplane.ports.load import EngineProber, LoadTester, QualityProbe
from controlplane.ports.store import Store
from controlplane.services.studies.arrivals import with_arrivals
from controlplane.services.studies.calibrate_here import calibrate, twin_note
from controlplane.services.studies.conclude import conclusion
from controlplane.services.studies.heartbeat import BEAT_EVERY_S
from controlplane.services.studies.lab import Lab
from controlplane.services.studies.next_trial import next_trial
from controlplane.services.studies.room import has_room, lacks_gpus, remove_leftovers
from controlplane.services.studies.search import StudySearch, look_again, open_search, reconcile, taught
from controlplane.services.studies.session import StudySession
from controlplane.services.studies.trial_engine import Interrupted, TrialProgress
from controlplane.services.studies.trial_plan import with_cost
from controlplane.telemetry.tracing import span
from loadtests.measure.engine_lag import LagHistogram
from tuner.answer.attempts import after_last_attempt, is_unfinished
from tuner.answer.plan import plan_of
from tuner.answer.policy import Action, Spent, Step, next_step, spent

_WAIT_S = 1.0
_LOOK_AT = 20  # studies, the newest first, when nothing waits and help is offered


class StudyProgress(NamedTuple):
    """What a progress bar shows. `trial` and the fields after it are None between trials."""

    study_id: StudyId
    message: str
    used: Spent
    spec: ServiceSpec
    trial: Trial | None = None
    rate_rps: float | None = None
    level_elapsed_s: float | None = None


def _ignore(_: StudyProgress) -> None:
    return None


@dataclass(frozen=True)
class StudyRunner:
    """A tuner worker; several may work on one study. `data_dir` gets the request records, `optuna_url` is the search's
    storage (None: in memory, for one worker only), `host` names the machine whose GPUs the fleet holds.
    """

    store: Store
    fleet: Fleet
    load_tester: LoadTester
    gateways: GatewayOpener
    clock: Clock
    worker_name: str
    data_dir: Path
    host: str = "localhost"
    optuna_url: str | None = None
    sleep: Callable[[float], None] = time.sleep
    on_progress: Callable[[StudyProgress], None] = _ignore
    reset_prefix_cache: Callable[[str], None] | None = None
    quality: QualityProbe | None = None
    engine_lag: Callable[[str], LagHistogram | None] | None = None
    adapters: AdapterLoader | None = None
    prober: EngineProber | None = None
    beat_every_s: float = BEAT_EVERY_S

    def run_next(self) -> Study | None:
        """Run the study that waits longest (or whose workers were lost), else help with one; None if there is none."""
        claimed = self.store.claim_study(self.worker_name, now=self.clock(), lease_s=STUDY_LEASE_S)
        if claimed is not None:
            return self.run(claimed.value.study_id)
        running = [study for study, _ in self.store.list_studies(limit=_LOOK_AT) if study.state is StudyState.RUNNING]
        return self.join(running[-1].study_id) if running else None

    def join(self, study_id: StudyId) -> Study | None:
        """Work on a study, beside other workers if there are any; None when it is not to be worked on."""
        joined = self.store.join_study(study_id, self.worker_name, now=self.clock(), lease_s=STUDY_LEASE_S)
        return None if joined is None else self.run(study_id)

    def run(self, study_id: StudyId) -> Study:
        """Run a claimed study to its end, or until it is paused, aborted or lost; return it as it then is.

        Raises Unavailable when the store or the search's record cannot be reached.
        """
        with span("study", study_id=study_id, worker=self.worker_name):
            return self._run(study_id)

    def _run(self, study_id: StudyId) -> Study:
        session = StudySession(self.store, study_id, worker=self.worker_name, host=self.host, clock=self.clock)
        try:
            session.check()
            with session.beating(every_s=self.beat_every_s):
                remove_leftovers(self.fleet, session, sleep=self.sleep)
                self._work(session, open_search(session.study, storage_url=self.optuna_url, host=self.host))
        except Interrupted:
            self._close_running(session)
        except InvalidInput as error:
            self._end(session, StudyState.FAILED, str(error))
        finally:
            self.store.release_study(study_id, self.worker_name)
        return session.study

    def _work(self, session: StudySession, search: StudySearch) -> None:
        """Do one step after the other. All that decides the next one is in the study's trials."""
        reconcile(session.study.spec, search.search, session.trials, shared=bool(session.others()))
        calibrate(session)
        over = _NOT_OVER
        while True:
            session.check()
            if session.is_paused():
                return
            session.refresh()
            search = look_again(session.study, search)
            over = over if over.finished == _finished(session.trials) else _NOT_OVER
            step = self._step(session, over.reason)
            if step.action in (Action.FINISH, Action.GIVE_UP):
                self._conclude(session, step)
                return
            if step.action is Action.WAIT or not has_room(self.fleet, session, step, host=self.host):
                self._wait(session, step)
                continue
            if (lacking := lacks_gpus(self.fleet, session.study.spec, step)) is not None:
                self._conclude(session, step._replace(action=Action.FINISH, unchecked=lacking))
                return
            over = self._do(session, search, step) or over

    def _step(self, session: StudySession, search_over: str | None) -> Step:
        now, spec = self.clock(), session.study.spec
        used, others = spent(session.study, session.trials, now=now), session.others()
        return next_step(spec, session.trials, used, search_over=search_over, others=others, now=now)

    def _do(self, session: StudySession, search: StudySearch, step: Step) -> _SearchOver | None:
        """Run a step's trial; return why the search proposes none when it does not."""
        try:
            trial = next_trial(self.fleet, session, search, step, sleep=self.sleep)
        except StaleVersion:  # another worker was faster; decide again
            return None
        if isinstance(trial, str):
            return _SearchOver(trial, _finished(session.trials))
        self._measure(session, search, trial)
        return None

    def _wait(self, session: StudySession, step: Step) -> None:
        study = session.study
        message = step.reason if step.action is Action.WAIT else "waits for free GPUs"
        used = spent(study, session.trials, now=self.clock())
        self.on_progress(StudyProgress(study.study_id, message, used, study.spec))
        self.sleep(_WAIT_S)

    def _measure(self, session: StudySession, search: StudySearch, trial: Trial) -> None:
        """Run one trial and keep its result: in our store first, then in the search's record."""
        spec = session.study.spec
        self._count_starts(session)
        begun = self.clock()
        ended = after_last_attempt(self._lab.measure(session, trial, self._show(session)))
        priced = with_arrivals(spec, with_cost(spec, ended), session.trials, search.calibration)
        session.save_trial(priced)
        used_s = max(0.0, (self.clock() - begun).total_seconds() - priced.waited_s) * trial.gpus
        self._count_starts(session)
        session.change_study(
            lambda study: study.evolve(gpu_seconds=study.gpu_seconds + used_s),
            session.event("trial.finished", priced.reason or "", number=trial.number, state=priced.state.value),
            *session.waits(priced),
        )
        self._teach(spec, search, priced)
        if trial.kind is TrialKind.BASELINE:
            calibrate(session)

    def _count_starts(self, session: StudySession) -> None:
        study = session.study
        used = spent(study, session.trials, now=self.clock())
        counts = {"engine_starts": used.engine_starts, "wasted_starts": used.wasted_starts}
        plan = plan_of(study.spec, session.trials, twin=twin_note(study.spec, study.calibration))
        session.change_study(lambda study: study.evolve(**counts, plan=plan))

    def _teach(self, spec: ServiceSpec, search: StudySearch, trial: Trial) -> None:
        if trial.optuna_number is None:
            return
        result = taught(spec, trial)
        if result is not None:
            search.search.tell(trial.optuna_number, result)
        elif not is_unfinished(trial):
            search.search.fail(trial.optuna_number, for_good=True, reason=trial.reason or "")

    def _show(self, session: StudySession) -> Callable[[TrialProgress], None]:
        study = session.study
        used = spent(study, session.trials, now=self.clock())

        def show(progress: TrialProgress) -> None:
            self.on_progress(
                StudyProgress(
                    study.study_id,
                    progress.phase,
                    used,
                    study.spec,
                    progress.trial,
                    progress.rate_rps,
                    progress.level_elapsed_s,
                )
            )

        return show

    @property
    def _lab(self) -> Lab:
        return Lab(
            store=self.store,
            fleet=self.fleet,
            load_tester=self.load_tester,
            gateways=self.gateways,
            clock=self.clock,
            sleep=self.sleep,
            data_dir=self.data_dir,
            reset_prefix_cache=self.reset_prefix_cache,
            quality=self.quality,
            engine_lag=self.engine_lag,
            adapters=self.adapters,
            prober=self.prober,
        )

    def _conclude(self, session: StudySession, step: Step) -> None:
        self._count_starts(session)
        study = session.study
        if step.action is Action.GIVE_UP:
            self._end(session, StudyState.FAILED, step.reason)
            return
        found = conclusion(
            study, session.trials, stopped_because=step.reason, unchecked=step.unchecked, now=self.clock()
        )
        if isinstance(found, str):
            self._end(session, StudyState.FAILED, found)
            return
        session.change_study(
            lambda s: s.evolve(
                state=StudyState.DONE, recommendation=found, reason=step.reason, finished_at=self.clock()
            ),
            session.event("study.done", found.summary, improvement=found.improvement),
        )

    def _end(self, session: StudySession, state: StudyState, reason: str) -> None:
        if session.study.state in STUDY_FINAL:
            return
        session.change_study(
            lambda study: study.evolve(state=state, reason=reason, finished_at=self.clock()),
            session.event(f"study.{state.value}", reason),
        )

    def _close_running(self, session: StudySession) -> None:
        """When the study is over no trial stays running. Else other workers own them: leave them alone."""
        study = session.study
        if study.state not in STUDY_FINAL:
            return
        session.refresh()
        for trial in session.trials:
            if trial.state is TrialState.RUNNING:
                why = f"the study was {study.state.value}"
                session.close(trial.evolve(state=TrialState.FAILED, reason=why, finished_at=self.clock()))


class _SearchOver(NamedTuple):
    """Why the search proposes nothing, as long as `finished` trials are all that is known."""

    reason: str | None
    finished: int


_NOT_OVER = _SearchOver(None, -1)


def _finished(trials: Sequence[Trial]) -> int:
    return sum(trial.state is not TrialState.RUNNING for trial in trials)
