"""One trial: start an engine, climb the rate ladder in its one life, stop it, and say what came out.

Three results, never mixed up: *feasible* (a capacity was measured), *infeasible* (the engine cannot start with these
flags, or holds no useful rate: the sampler learns it) and *failed* (the experiment broke: retried, never learnt from).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.base import EngineId
from controlplane.domain.errors import InvalidInput, NotFound, Unavailable
from controlplane.domain.fleet import Engine, EngineSpec, EngineState, StartFailure
from controlplane.domain.launch import engine_spec
from controlplane.domain.report import Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Level, Trial, TrialState
from controlplane.domain.workload import Workload
from controlplane.ports import Clock, Fleet, LoadProgress, LoadRequest, LoadTester
from tuner.ladder import Ladder, Rung
from tuner.level import LevelJudge, LevelOutcome, Looks

_POLL_S = 0.2
_STOP_WAIT_S = 60.0
_DRAIN_WAIT_S = 30.0
_GPU_WAIT_S = 120.0


class TrialProgress(NamedTuple):
    """Where a running trial is, for progress bars."""

    trial: Trial
    phase: str
    rate_rps: float | None = None
    level_elapsed_s: float | None = None


class Interrupted(Exception):  # no error of the user's: the runner is told to let go
    """The study was aborted, or another worker took it, while the trial ran."""


@dataclass(frozen=True)
class TrialRunner:
    """Runs trials on a fleet. `check` is called often and raises Interrupted when the trial must end at once."""

    fleet: Fleet
    load_tester: LoadTester
    clock: Clock
    sleep: Callable[[float], None]
    out_dir: Path
    check: Callable[[], None]
    on_progress: Callable[[TrialProgress], None]
    save: Callable[[Trial], None]
    reset_prefix_cache: Callable[[str], None] | None = None
    examine: Callable[[Trial, str], Trial] | None = None

    def run(self, trial: Trial, *, spec: ServiceSpec, ladder: Ladder, workload: Workload, seed: int) -> Trial:
        """Return the finished trial. The engine is gone when this returns or raises. Raises Interrupted."""
        wanted = _engine_spec(trial, spec)
        try:
            engine = self._started(wanted, trial)
            if engine.state is not EngineState.READY:
                return self._not_started(trial, engine)
            ready = trial.evolve(startup_s=engine.startup_s)
            self.save(ready)
            return self._climb(ready, engine, spec, ladder, _Load(workload, seed))
        except InvalidInput as error:
            return self._ended(trial, TrialState.INFEASIBLE, str(error))
        except Unavailable as error:
            return self._ended(trial, TrialState.FAILED, str(error))
        finally:
            remove_engine(self.fleet, wanted.engine_id, sleep=self.sleep)

    def _started(self, wanted: EngineSpec, trial: Trial) -> Engine:
        engine = self._start_when_free(wanted, trial)
        deadline = self.clock().timestamp() + wanted.start_timeout_s + _STOP_WAIT_S
        while engine.state is EngineState.STARTING and self.clock().timestamp() < deadline:
            self._tick(trial, "starting the engine")
            engine = self.fleet.observe(wanted.engine_id)
        return engine

    def _tick(self, trial: Trial, phase: str) -> None:
        self.check()
        self.on_progress(TrialProgress(trial, phase))
        self.sleep(_POLL_S)

    def _start_when_free(self, wanted: EngineSpec, trial: Trial) -> Engine:
        """Wait for GPUs: a moment for those of an engine that just ended, as long as it takes for another trial's."""
        deadline = self.clock().timestamp() + _GPU_WAIT_S
        while True:
            self.on_progress(TrialProgress(trial, "starting the engine"))
            try:
                return self.fleet.start(wanted)
            except Unavailable:
                if self.clock().timestamp() >= deadline and not self._others_measure(wanted):
                    raise
            self._tick(trial, "waiting for free GPUs")

    def _others_measure(self, wanted: EngineSpec) -> bool:
        over = (EngineState.STOPPED, EngineState.FAILED)
        beside = [e.spec for e in self.fleet.list() if e.state not in over and e.spec.owner != wanted.owner]
        return any(spec.owner.startswith("trial/") for spec in beside)

    def _not_started(self, trial: Trial, engine: Engine) -> Trial:
        failure = engine.failure or StartFailure.TIMEOUT
        state = TrialState.INFEASIBLE if failure.is_infeasible else TrialState.FAILED
        detail = engine.failure_detail or "no reason in the log"
        return self._ended(trial.evolve(start_failure=failure), state, f"engine did not start ({failure}): {detail}")

    def _climb(self, trial: Trial, engine: Engine, spec: ServiceSpec, ladder: Ladder, load: _Load) -> Trial:
        while (rate := ladder.next_rate()) is not None:
            level, outcome = self._level(trial, engine, spec, _Step(rate, ladder.may_pass_early(rate)), load)
            trial = trial.evolve(levels=(*trial.levels, level))
            self.save(trial)
            if (died := self._death(trial, engine)) is not None:
                return died
            if level.report.validity is Validity.INVALID:
                return self._ended(trial, TrialState.FAILED, f"load test invalid: {outcome.reason}")
            ladder = ladder.climbed(_rung(rate, outcome))
            self._settle(engine)
        judged = self._judged(trial, ladder)
        if self.examine is None or engine.url is None:
            return judged
        self.on_progress(TrialProgress(judged, "comparing answers"))
        return self.examine(judged, engine.url)

    def _level(
        self, trial: Trial, engine: Engine, spec: ServiceSpec, step: _Step, load: _Load
    ) -> tuple[Level, LevelOutcome]:
        options, rate = spec.tuning.levels, step.rate_rps
        judge = LevelJudge(spec.slos, options, planned=rate * options.max_s, may_pass_early=step.may_pass_early)

        def watch(progress: LoadProgress) -> str | None:
            self.check()
            self.on_progress(TrialProgress(trial, "level", rate, progress.elapsed_s))
            return judge.watch(Looks(progress.elapsed_s, progress.in_flight, progress.records))

        out_dir = self.out_dir / f"trial-{trial.number}-{trial.attempt}" / f"level-{len(trial.levels)}"
        result = self.load_tester.run(_request(spec, engine, rate, load), out_dir=out_dir, watch=watch)
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

    def _death(self, trial: Trial, engine: Engine) -> Trial | None:
        """Return the ended trial when the engine died under load, else None."""
        seen = self.fleet.observe(engine.spec.engine_id)
        if seen.state is EngineState.READY:
            return None
        failure = seen.failure or StartFailure.CRASHED
        state = TrialState.INFEASIBLE if failure.is_infeasible else TrialState.FAILED
        detail = seen.failure_detail or "no reason in the log"
        return self._ended(trial.evolve(start_failure=failure), state, f"engine died under load ({failure}): {detail}")

    def _settle(self, engine: Engine) -> None:
        """Let the last level's requests finish and empty the prefix cache, so that levels do not help each other."""
        deadline = self.clock().timestamp() + _DRAIN_WAIT_S
        while self.fleet.in_flight(engine.spec.engine_id) and self.clock().timestamp() < deadline:
            self.check()
            self.sleep(_POLL_S)
        if self.reset_prefix_cache is not None and engine.url is not None:
            self.reset_prefix_cache(engine.url)

    def _judged(self, trial: Trial, ladder: Ladder) -> Trial:
        capacity = ladder.capacity()
        if capacity is not None and not ladder.is_dropped:
            return self._ended(trial.evolve(capacity=capacity), TrialState.FEASIBLE, None)
        worst = trial.levels[-1]
        where = f"{worst.rate_rps:.3g} requests/s"
        beat = "" if ladder.beat_rps is None else f", needs {ladder.beat_rps:.3g} to be worth anything"
        return self._ended(trial, TrialState.INFEASIBLE, f"at {where} {worst.reason}{beat}")

    def _ended(self, trial: Trial, state: TrialState, reason: str | None) -> Trial:
        return trial.evolve(state=state, reason=reason, finished_at=self.clock())


class _Step(NamedTuple):
    rate_rps: float
    may_pass_early: bool


class _Load(NamedTuple):
    workload: Workload
    seed: int


def engine_id(trial: Trial) -> EngineId:
    """Return the id of a trial's engine: one per attempt, so that a retry never meets the last attempt's corpse."""
    return EngineId(f"trial-{trial.study_id}-{trial.number}-{trial.attempt}".lower())


def owner(trial: Trial) -> str:
    """Return what a trial's engine is labelled with."""
    return f"trial/{trial.study_id}/{trial.number}"


def remove_engine(fleet: Fleet, engine: EngineId, *, sleep: Callable[[float], None]) -> None:
    """Stop an engine at once, wait until it is gone and forget it. Unknown engines are ignored."""
    try:
        seen = fleet.stop(engine, drain_s=0)
        for _ in range(int(_STOP_WAIT_S / _POLL_S)):
            if seen.state in (EngineState.STOPPED, EngineState.FAILED):
                fleet.forget(engine)
                return
            sleep(_POLL_S)
            seen = fleet.observe(engine)
    except NotFound:
        return


def _engine_spec(trial: Trial, spec: ServiceSpec) -> EngineSpec:
    return engine_spec(
        engine_id(trial), owner(trial), model=spec.model, engine=spec.engine, gpus=spec.gpus, config=trial.config
    )


def _request(spec: ServiceSpec, engine: Engine, rate: float, load: _Load) -> LoadRequest:
    if engine.url is None:
        raise Unavailable(f"engine {engine.spec.engine_id} has no address", why="it is ready but did not say where")
    levels = spec.tuning.levels
    return LoadRequest(
        workload=load.workload,
        rate_rps=rate,
        url=engine.url,
        model=spec.model.name,
        duration_s=levels.max_s,
        warmup_s=levels.warmup_s,
        time_lapse=spec.engine.time_lapse,
        seed=load.seed,
        slos=spec.slos.latency,
    )


def _rung(rate: float, outcome: LevelOutcome) -> Rung:
    return Rung(
        rate_rps=rate,
        passed=outcome.passed,
        certain=outcome.certain,
        pressure=outcome.pressure,
        whole=outcome.whole,
    )
