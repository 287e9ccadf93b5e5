"""One rate level of a trial: loaded, watched while it runs, and judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Level, Trial
from controlplane.domain.workload import Workload
from controlplane.ports import LoadProgress, LoadRequest, LoadTester
from controlplane.services.studies.trial_engine import TrialProgress
from tuner.ladder.level import LevelJudge, LevelOutcome, Looks


class LevelLoad(NamedTuple):
    """What one level is loaded with."""

    workload: Workload
    seed: int
    rate_rps: float
    may_pass_early: bool = False


@dataclass(frozen=True)
class LevelRunner:
    """Runs levels. `check` is called often and raises Interrupted when the trial must end at once."""

    load_tester: LoadTester
    out_dir: Path
    check: Callable[[], None]
    on_progress: Callable[[TrialProgress], None]

    def run(self, trial: Trial, spec: ServiceSpec, url: str, load: LevelLoad) -> tuple[Level, LevelOutcome]:
        """Run the trial's next level against `url`. Raises Unavailable and Interrupted."""
        options, rate = spec.tuning.levels, load.rate_rps
        judge = LevelJudge(spec.slos, options, planned=rate * options.max_s, may_pass_early=load.may_pass_early)

        def watch(progress: LoadProgress) -> str | None:
            self.check()
            self.on_progress(TrialProgress(trial, "level", rate, progress.elapsed_s))
            return judge.watch(Looks(progress.elapsed_s, progress.in_flight, progress.records))

        folder = self.folder(trial) / f"level-{len(trial.levels)}"
        result = self.load_tester.run(_request(spec, url, load), out_dir=folder, watch=watch)
        outcome = judge.conclude(result.report)
        level = Level(
            rate_rps=rate,
            passed=outcome.passed,
            certain=outcome.certain,
            reason=outcome.reason,
            report=result.report,
            records_path=str(result.records_path),
        )
        return level, outcome

    def folder(self, trial: Trial) -> Path:
        """Return where this attempt's files lie."""
        return self.out_dir / f"trial-{trial.number}-{trial.attempt}"


def _request(spec: ServiceSpec, url: str, load: LevelLoad) -> LoadRequest:
    levels = spec.tuning.levels
    return LoadRequest(
        workload=load.workload,
        rate_rps=load.rate_rps,
        url=url,
        model=spec.model.name,
        duration_s=levels.max_s,
        warmup_s=levels.warmup_s,
        time_lapse=spec.engine.time_lapse,
        seed=load.seed,
        slos=spec.slos.latency,
    )
