"""A study from its claim to its recommendation. Everything it needs to go on after kill -9 is in the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.base import StudyId
from controlplane.domain.capacity import usd_per_million_tokens
from controlplane.domain.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import STUDY_FINAL, STUDY_LEASE_S, Study, StudyState, Trial, TrialKind, TrialState
from controlplane.domain.workload import TracePart, TraceWorkload, Workload
from controlplane.ports import Clock, Fleet, LoadTester, QualityProbe, Store
from controlplane.services.check_quality import QualityGate
from controlplane.services.conclude_study import conclusion
from controlplane.services.run_trial import Interrupted, TrialProgress, TrialRunner, remove_engine
from controlplane.services.study_search import StudySearch, open_search, reconcile, taught
from controlplane.services.study_session import StudySession
from tuner.ladder import Ladder, LadderOptions
from tuner.objective import fleet_for, rate_to_beat
from tuner.search import Strategy
from tuner.study_policy import MAX_ATTEMPTS, Action, Spent, Step, next_step, spent
from tuner.winner import choose, incumbent

_CONFIRM_SEED = 7919  # added to the workload's seed: arrivals and lengths the search never saw
_USEFUL_SHARE = 0.25  # of the rate at which all GPUs together reach the target: below, a replica is useless


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
    """A tuner worker. `data_dir` gets the request records; `optuna_url` is the search's storage (None: in memory)."""

    store: Store
    fleet: Fleet
    load_tester: LoadTester
    clock: Clock
    worker_name: str
    data_dir: Path
    optuna_url: str | None = None
    sleep: Callable[[float], None] = time.sleep
    on_progress: Callable[[StudyProgress], None] = _ignore
    reset_prefix_cache: Callable[[str], None] | None = None
    strategy: Strategy = Strategy.TWIN
    quality: QualityProbe | None = None

    def run_next(self) -> Study | None:
        """Claim the study that waits longest (or whose worker was lost) and run it; None when there is none."""
        claimed = self.store.claim_study(self.worker_name, now=self.clock(), lease_s=STUDY_LEASE_S)
        return None if claimed is None else self.run(claimed.value.study_id)

    def run(self, study_id: StudyId) -> Study:
        """Run a claimed study to its end, or until it is paused, aborted or taken over; return it as it then is.

        Raises Unavailable when the store or the search's record cannot be reached.
        """
        session = StudySession(self.store, study_id, worker=self.worker_name, clock=self.clock)
        try:
            session.check()
            self._remove_leftovers(study_id)
            self._work(session, open_search(session.study, storage_url=self.optuna_url, strategy=self.strategy))
        except Interrupted:
            self._close_running(session)
        except InvalidInput as error:
            self._end(session, StudyState.FAILED, str(error))
        finally:
            self.store.release_study(study_id, self.worker_name)
        return session.study

    def _work(self, session: StudySession, search: StudySearch) -> None:
        """Do one step after the other. All that decides the next one is in the session's trials."""
        spec = session.study.spec
        reconcile(spec, search.search, session.trials)
        search_over: str | None = None
        while True:
            session.check()
            if session.is_paused():
                return
            step = next_step(spec, session.trials, spent(session.study, now=self.clock()), search_over=search_over)
            if step.action in (Action.FINISH, Action.GIVE_UP):
                self._conclude(session, step)
                return
            trial = self._prepared(session, search, step)
            if isinstance(trial, str):
                search_over = trial
                continue
            self._measure(session, search, trial)

    def _prepared(self, session: StudySession, search: StudySearch, step: Step) -> Trial | str:
        """Return the trial to run now, saved as running; or why the search proposes none."""
        study, spec = session.study, session.study.spec
        match step.action:
            case Action.RETRY:
                assert step.trial is not None
                return session.again(step.trial)
            case Action.BASELINE:
                number = search.search.add(search.among.space.point(study.baseline))
                return self._begun(session, search, TrialKind.BASELINE, study.baseline, number)
            case Action.SEARCH:
                proposal = search.search.ask()
                if isinstance(proposal, str):
                    return proposal
                config = search.among.space.config(proposal.point)
                return self._begun(session, search, TrialKind.SEARCH, config, proposal.number)
            case Action.CONFIRM_WINNER:
                winner = choose(spec, session.trials)
                assert winner is not None  # the policy confirms only what was chosen
                return self._begun(session, search, TrialKind.CONFIRM_WINNER, winner.config, None)
            case Action.CONFIRM_BASELINE:
                return self._begun(session, search, TrialKind.CONFIRM_BASELINE, study.baseline, None)
            case Action.FINISH | Action.GIVE_UP:
                raise ValueError("nothing is measured at the end of a study")

    def _begun(
        self, session: StudySession, search: StudySearch, kind: TrialKind, config: EngineConfig, number: int | None
    ) -> Trial:
        trial = session.new_trial(kind, config, optuna_number=number)
        expected = search.forecast_rps(config)
        return trial if expected is None else trial.evolve(predicted={"capacity_rps": expected})

    def _measure(self, session: StudySession, search: StudySearch, trial: Trial) -> None:
        """Run one trial and keep its result: in our store first, then in the search's record."""
        spec = session.study.spec
        session.change_study(lambda study: study.evolve(engine_starts=study.engine_starts + 1))
        begun = self.clock()
        ladder = _ladder(spec, trial, session.trials)
        seed = _seed(spec, trial, session.trials)
        finished = self._runner(session).run(
            trial, spec=spec, ladder=ladder, workload=_workload(spec, trial), seed=seed
        )
        priced = with_cost(spec, finished)
        session.save_trial(priced)
        used_s = (self.clock() - begun).total_seconds() * trial.config.gpus_per_replica
        session.change_study(
            lambda study: study.evolve(gpu_seconds=study.gpu_seconds + used_s),
            session.event("trial.finished", priced.reason or "", number=trial.number, state=priced.state.value),
        )
        self._teach(spec, search, priced)

    def _teach(self, spec: ServiceSpec, search: StudySearch, trial: Trial) -> None:
        if trial.optuna_number is None:
            return
        result = taught(spec, trial)
        if result is not None:
            search.search.tell(trial.optuna_number, result)
        elif trial.attempt >= MAX_ATTEMPTS:
            search.search.fail(trial.optuna_number)

    def _runner(self, session: StudySession) -> TrialRunner:
        study = session.study
        used = spent(study, now=self.clock())

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

        return TrialRunner(
            fleet=self.fleet,
            load_tester=self.load_tester,
            clock=self.clock,
            sleep=self.sleep,
            out_dir=self.data_dir / study.study_id,
            check=session.check,
            on_progress=show,
            save=session.save_trial,
            reset_prefix_cache=self.reset_prefix_cache,
            examine=QualityGate(self.store, study.study_id, study.spec, study.baseline, self.quality),
        )

    def _conclude(self, session: StudySession, step: Step) -> None:
        study = session.study
        if step.action is Action.GIVE_UP:
            self._end(session, StudyState.FAILED, step.reason)
            return
        found = conclusion(study, session.trials, stopped_because=step.reason, now=self.clock())
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

    def _remove_leftovers(self, study_id: StudyId) -> None:
        """Engines of a worker that died would hold GPUs for ever."""
        for engine in self.fleet.list():
            if engine.spec.owner.startswith(f"trial/{study_id}/"):
                remove_engine(self.fleet, engine.spec.engine_id, sleep=self.sleep)

    def _close_running(self, session: StudySession) -> None:
        """After an abort no trial stays running. After a takeover the other worker owns them: leave them alone."""
        if session.study.state is not StudyState.ABORTED:
            return
        for trial in session.trials:
            if trial.state is TrialState.RUNNING:
                closed = trial.evolve(state=TrialState.FAILED, reason="the study was aborted", finished_at=self.clock())
                session.save_trial(closed)


def with_cost(spec: ServiceSpec, trial: Trial) -> Trial:
    """Return a trial with what its capacity means in replicas and money; as it is when it has none."""
    if trial.state is not TrialState.FEASIBLE or trial.capacity is None:
        return trial
    fleet = fleet_for(spec, trial.capacity.rps, trial.config.gpus_per_replica)
    best = max((level for level in trial.levels if level.passed), key=lambda level: level.rate_rps)
    report = best.report
    per_request = (report.prompt_tps + report.output_tps) / report.throughput_rps if report.throughput_rps else 0.0
    if per_request <= 0:
        return trial.evolve(fleet=fleet)
    tokens_per_s = per_request * min(spec.slos.target_qps, trial.capacity.rps * fleet.replicas)
    return trial.evolve(fleet=fleet, usd_per_million_tokens=usd_per_million_tokens(fleet.usd_per_hour, tokens_per_s))


def _workload(spec: ServiceSpec, trial: Trial) -> Workload:
    """Return what the trial is loaded with: rows of the trace that the search never saw when it confirms."""
    if not isinstance(spec.workload, TraceWorkload) or spec.workload.part is not TracePart.ALL:
        return spec.workload
    confirming = trial.kind in (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)
    return spec.workload.evolve(part=TracePart.HELD_OUT if confirming else TracePart.SEARCH)


def _seed(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...]) -> int:
    """Return the seed of arrivals and lengths: one for the whole search, a fresh one per round of confirmation."""
    if trial.kind not in (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE):
        return spec.tuning.seed
    earlier = sum(t.kind is trial.kind and t.number < trial.number for t in trials)
    return spec.tuning.seed + _CONFIRM_SEED + earlier


def _ladder(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...]) -> Ladder:
    """Return where a trial's levels start: at the rate it has to beat, else at what is expected of it."""
    gpus = trial.config.gpus_per_replica
    useful = spec.slos.target_qps / max(1, spec.gpus.count // gpus)
    options = LadderOptions(precision=spec.tuning.levels.precision, floor_rps=useful * _USEFUL_SHARE)
    forecast = trial.predicted.get("capacity_rps")
    if trial.kind is TrialKind.SEARCH:
        best = incumbent(spec, trials)
        if best is not None and best.capacity is not None:
            beat = rate_to_beat(best.capacity.rps, best.config.gpus_per_replica, gpus)
            return Ladder(options=options, start_rps=beat, beat_rps=beat, forecast_rps=forecast)
        return Ladder(options=options, start_rps=forecast or useful, forecast_rps=forecast)
    if trial.kind is TrialKind.BASELINE:
        return Ladder(options=options, start_rps=forecast or useful, forecast_rps=forecast)
    known = next((t.capacity for t in trials if t.config == trial.config and t.capacity is not None), None)
    if known is None:
        return Ladder(options=options, start_rps=forecast or useful, forecast_rps=forecast)
    return Ladder(options=options, start_rps=known.low_rps, forecast_rps=known.rps)
