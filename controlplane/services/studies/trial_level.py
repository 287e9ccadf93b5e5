"""One rate level of a trial: loaded, watched while it runs, and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.report import Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.pace import Pace, pace_of
from controlplane.domain.studies.study import Level, Trial, TrialKind
from controlplane.domain.workload import Workload, has_own_arrivals
from controlplane.ports.load import LoadProgress, LoadRequest, LoadTester
from controlplane.services.studies.trial_engine import TrialProgress
from controlplane.telemetry.tracing import span
from loadtests.measure.engine_lag import LagHistogram
from loadtests.report.report import with_engine_lag
from tuner.ladder.level import LevelJudge, LevelOutcome, Looks

_STAY = 90.0  # percentile of E2E latency: how long most requests stay in the engine
_MOST_BROKEN = 3  # levels of one engine's life: one loaded again costs less than a start


class LevelLoad(NamedTuple):
    """What one level is loaded with. `residence_s` is how long most requests stay, where that is known beforehand.

    `api_key` is that of a gateway before the engines, None for the engines' own.
    """

    workload: Workload
    seed: int
    rate_rps: float
    may_pass_early: bool = False
    residence_s: float | None = None
    api_key: str | None = None


def _no_lags(_: Trial) -> Mapping[str, LagHistogram]:
    return {}


@dataclass(frozen=True)
class LevelRunner:
    """Runs levels. `check` is called often and raises Interrupted when the trial must end at once.

    `lags` says of a trial's emulated engines, by their address, how late they delivered since they started.
    """

    load_tester: LoadTester
    out_dir: Path
    check: Callable[[], None]
    on_progress: Callable[[TrialProgress], None]
    lags: Callable[[Trial], Mapping[str, LagHistogram]] = _no_lags

    def run(self, trial: Trial, spec: ServiceSpec, url: str, load: LevelLoad) -> tuple[Level, LevelOutcome]:
        """Run the trial's next level against `url`. Raises Unavailable and Interrupted."""
        rate = load.rate_rps
        plan = pace_of(spec, trial.kind, rate, residence_s=load.residence_s or residence_s(trial.levels))
        judge = LevelJudge(
            spec.slos,
            spec.tuning.levels,
            planned=rate * plan.duration_s,
            may_pass_early=load.may_pass_early,
            warmup_s=plan.warmup_s,
            enough=plan.enough,
            bursty=trial.kind is TrialKind.CONFIRM_FLEET and has_own_arrivals(spec.workload),
        )

        def watch(progress: LoadProgress) -> str | None:
            self.check()
            self.on_progress(TrialProgress(trial, "level", rate, progress.elapsed_s))
            return judge.watch(Looks(progress.elapsed_s, progress.in_flight, progress.records))

        folder = self.folder(trial) / f"level-{len(trial.levels)}"
        before = self.lags(trial)
        with span("level", trial_id=trial.trial_id, rate_rps=rate):
            result = self.load_tester.run(_request(spec, url, load, plan), out_dir=folder, watch=watch)
        report = with_engine_lag(result.report, _worst_ms(before, self.lags(trial)), max_lag_ms=spec.max_lag_ms)
        outcome = judge.conclude(report)
        level = Level(
            rate_rps=rate,
            passed=outcome.passed,
            certain=outcome.certain,
            reason=outcome.reason,
            report=report,
            records_path=str(result.records_path),
            warmup_s=plan.warmup_s,
            replicas=trial.loaded_replicas if trial.kind is TrialKind.CONFIRM_FLEET else None,
            spare=trial.spared(spec.tuning.objective.spare_replicas),
        )
        return level, outcome

    def rest(self) -> None:
        """Give back what sends the load: the trial has no more levels."""
        self.load_tester.rest()

    def folder(self, trial: Trial) -> Path:
        """Return where this attempt's files lie."""
        return self.out_dir / f"trial-{trial.number}-{trial.attempt}"


def broken(trial: Trial) -> str | None:
    """Say why a trial whose last level was invalid broke: too many of them. None while it may be loaded again.

    What spoils a level (a generator or an emulated engine held up by its host) is mostly over with the next.
    """
    spoilt = [level for level in trial.levels if level.report.validity is Validity.INVALID]
    if len(spoilt) < _MOST_BROKEN:
        return None
    last = spoilt[-1]
    return f"load test invalid {len(spoilt)} times, last: {last.report.invalid_reason or last.reason}"


def _worst_ms(before: Mapping[str, LagHistogram], after: Mapping[str, LagHistogram]) -> float:
    """Return the largest P99 lag of the engines between two readings, ms of wall clock; 0 without any."""
    return max((lag.since(before[url]).p99_ms for url, lag in after.items() if url in before), default=0.0)


def residence_s(levels: Sequence[Level]) -> float | None:
    """Return how long most requests stayed in the engine at the last level that passed, seconds; None when none did."""
    for level in reversed(levels):
        stay = level.report.e2e_ms.at(_STAY)
        if level.passed and stay is not None:
            return stay.value / 1e3
    return None


def stay_of(trials: Sequence[Trial], config: EngineConfig) -> float | None:
    """Return how long most requests stayed in engines of a configuration when last measured; None when none was."""
    found = (residence_s(trial.levels) for trial in reversed(trials) if trial.config == config)
    return next((stay for stay in found if stay is not None), None)


def _request(spec: ServiceSpec, url: str, load: LevelLoad, plan: Pace) -> LoadRequest:
    return LoadRequest(
        workload=load.workload,
        rate_rps=load.rate_rps,
        url=url,
        model=spec.model.name,
        adapters=spec.tuning.asked_adapters,
        duration_s=plan.duration_s,
        warmup_s=plan.warmup_s,
        time_lapse=spec.engine.time_lapse,
        max_lag_ms=spec.max_lag_ms,
        seed=load.seed,
        slos=spec.slos.latency,
        api_key=load.api_key or spec.engine.api_key,
        dialect=spec.engine.driver.dialect,
    )
