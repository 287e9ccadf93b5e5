"""What a tuner worker measures trials with, and how each kind of trial is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.domain.study import Trial
from controlplane.ports import Clock, Fleet, LoadTester, QualityProbe, Store
from controlplane.services.check_quality import QualityGate
from controlplane.services.run_trial import Climb, TrialRunner
from controlplane.services.study_session import StudySession
from controlplane.services.trial_engine import TrialEngines, TrialProgress
from controlplane.services.trial_level import LevelRunner
from controlplane.services.trial_plan import ladder_of, seed_of, workload_of


@dataclass(frozen=True)
class Lab:
    """One host's engines and load tester. `data_dir` gets the request records."""

    store: Store
    fleet: Fleet
    load_tester: LoadTester
    clock: Clock
    sleep: Callable[[float], None]
    data_dir: Path
    reset_prefix_cache: Callable[[str], None] | None = None
    quality: QualityProbe | None = None

    def measure(self, session: StudySession, trial: Trial, on_progress: Callable[[TrialProgress], None]) -> Trial:
        """Return the finished trial. Raises Interrupted when the study is over or this worker lost it."""
        study, spec = session.study, session.study.spec
        runner = TrialRunner(
            engines=TrialEngines(
                fleet=self.fleet,
                clock=self.clock,
                sleep=self.sleep,
                check=session.check,
                on_progress=on_progress,
                save=session.save_trial,
            ),
            levels=LevelRunner(
                load_tester=self.load_tester,
                out_dir=self.data_dir / study.study_id,
                check=session.check,
                on_progress=on_progress,
            ),
            reset_prefix_cache=self.reset_prefix_cache,
            examine=QualityGate(self.store, study.study_id, spec, study.baseline, self.quality),
        )
        climb = Climb(
            ladder=ladder_of(spec, trial, session.trials),
            workload=workload_of(spec, trial),
            seed=seed_of(spec, trial, session.trials),
        )
        return runner.run(trial, spec, climb)
