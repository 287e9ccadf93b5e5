"""What a tuner worker measures trials with, and how each kind of trial is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.ports import Clock
from controlplane.ports.adapters import AdapterLoader
from controlplane.ports.fleet import Fleet
from controlplane.ports.gateways import GatewayOpener
from controlplane.ports.load import EngineProber, LoadTester, QualityProbe
from controlplane.ports.store import Store
from controlplane.services.studies.quality_gate import QualityGate
from controlplane.services.studies.run_fleet_check import FleetCheckRunner, FleetPlan
from controlplane.services.studies.run_trial import Climb, TrialRunner
from controlplane.services.studies.session import StudySession
from controlplane.services.studies.trial_engine import TrialEngines, TrialProgress, free_for_trials, owner
from controlplane.services.studies.trial_level import LevelLoad, LevelRunner, stay_of
from controlplane.services.studies.trial_plan import ladder_of, seed_of, workload_of
from controlplane.services.studies.trial_twin import trial_twin
from controlplane.services.studies.warm_up import WarmUpRunner
from loadtests.measure.engine_lag import LagHistogram
from tuner.answer.evidence import measured
from tuner.answer.fewer import cannot_shrink, check_rps
from tuner.answer.fleet_check import Move, cannot_grow, next_move
from tuner.answer.fleets import carried_rps
from tuner.answer.plan import lacks_time
from tuner.answer.policy import fits, spent

_NEXT_LEVEL = 1_000_003  # added to a fleet check's seed for each level: no two see the same arrivals


@dataclass(frozen=True)
class Lab:
    """One host's engines and load tester. `data_dir` gets the request records."""

    store: Store
    fleet: Fleet
    load_tester: LoadTester
    gateways: GatewayOpener
    clock: Clock
    sleep: Callable[[float], None]
    data_dir: Path
    reset_prefix_cache: Callable[[str], None] | None = None
    quality: QualityProbe | None = None
    engine_lag: Callable[[str], LagHistogram | None] | None = None
    adapters: AdapterLoader | None = None
    prober: EngineProber | None = None

    def measure(self, session: StudySession, trial: Trial, on_progress: Callable[[TrialProgress], None]) -> Trial:
        """Return the finished trial. Raises Interrupted when the study is over or this worker lost it."""
        engines = TrialEngines(
            fleet=self.fleet,
            clock=self.clock,
            sleep=self.sleep,
            check=session.check,
            on_progress=on_progress,
            save=session.save_trial,
            adapters=self.adapters,
            warm_up=None if self.prober is None else WarmUpRunner(self.prober, session.check, on_progress),
        )
        levels = LevelRunner(
            load_tester=self.load_tester,
            out_dir=self.data_dir / trial.study_id,
            check=session.check,
            on_progress=on_progress,
            lags=self._lags,
        )
        if trial.kind is TrialKind.CONFIRM_FLEET:
            return self._check_fleet(session, trial, FleetCheckRunner(engines, levels, self.gateways))
        return self._climb(session, trial, engines, levels)

    def _lags(self, trial: Trial) -> dict[str, LagHistogram]:
        """Return by address how late a trial's engines delivered so far; nothing of those that do not say."""
        if self.engine_lag is None:
            return {}
        urls = [e.url for e in self.fleet.list() if e.spec.owner == owner(trial) and e.url is not None]
        found = ((url, self.engine_lag(url)) for url in urls)
        return {url: lag for url, lag in found if lag is not None}

    def _climb(self, session: StudySession, trial: Trial, engines: TrialEngines, levels: LevelRunner) -> Trial:
        study = session.study
        spec = study.spec.served_by(trial.config)
        gate = QualityGate(self.store, study.study_id, spec, study.baseline, self.quality)
        runner = TrialRunner(engines, levels, reset_prefix_cache=self.reset_prefix_cache, examine=gate)
        ladder, workload = ladder_of(spec, trial, session.trials), workload_of(spec, trial)
        seed = seed_of(spec, trial, session.trials)
        start = ladder.forecast_rps or ladder.start_rps
        twin = trial_twin(
            spec, trial.config, workload, seed=seed, start_rps=start, kind=trial.kind, calibration=study.calibration
        )
        return runner.run(trial, spec, Climb(ladder, workload, seed, twin))

    def _check_fleet(self, session: StudySession, trial: Trial, runner: FleetCheckRunner) -> Trial:
        spec = session.study.spec.served_by(trial.config)

        def load(now: Trial) -> LevelLoad:
            others = [trial for trial in session.trials if trial.trial_id != now.trial_id]
            belief = measured([*others, now])[now.config.content_hash()].belief
            seed = seed_of(spec, now, session.trials) + _NEXT_LEVEL * len(now.levels)
            rate = check_rps(spec, carried_rps(spec, belief, now.replicas), now)
            return LevelLoad(workload_of(spec, now), seed, rate, residence_s=stay_of(others, now.config))

        def cannot(now: Trial) -> str | None:
            return cannot_grow(spec, session.trials, now) or self._lacks(session, now)

        def cannot_do_without(now: Trial) -> str | None:
            return cannot_shrink(spec, session.trials, now) or self._lacks_time(session, now)

        def move(now: Trial) -> Move:
            return next_move(spec, session.trials, now, in_time=self._lacks_time(session, now) is None)

        plan = FleetPlan(load, move, cannot, cannot_do_without)
        return runner.run(trial, spec, plan)

    def _lacks_time(self, session: StudySession, trial: Trial) -> str | None:
        """Return what of the budget does not hold another level of a check, None for nothing."""
        study, now = session.study, self.clock()
        used, here_s = spent(study, session.trials, now=now), (now - trial.started_at).total_seconds()
        return lacks_time(study.spec, used, trial, here_s)

    def _lacks(self, session: StudySession, trial: Trial) -> str | None:
        """Return what one more engine lacks here, None for nothing."""
        used = spent(session.study, session.trials, now=self.clock())
        if not fits(session.study.spec, session.trials, used, starts=1):
            return "the budget does not hold 1 more engine start"
        needed, free = trial.config.gpus_per_replica, free_for_trials(self.fleet, session.study.spec)
        return None if free >= needed else f"one more replica needs {needed} GPUs, {free} of this host are free"
