"""The engines of one running trial: started, watched while they are measured, and gone afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import InvalidInput, NotFound, Unavailable
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import TrialOwner
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.domain.studies.warm_up import WarmUp
from controlplane.ports import Clock
from controlplane.ports.adapters import AdapterLoader
from controlplane.ports.fleet import Fleet
from tuner.answer.attempts import MAX_ATTEMPTS

_POLL_S = 0.2
_STOP_WAIT_S = 60.0
_AWAY_S = 20.0
"""Longer than an API server is away while it is replaced, and than its silence makes what is known of it old."""
_DRAIN_WAIT_S = 30.0
_GPU_WAIT_S = 120.0

T = TypeVar("T")
Measure = Callable[[Trial, Sequence[Engine]], Trial]
"""Measures ready engines and returns the finished trial."""


class TrialProgress(NamedTuple):
    """Where a running trial is, for progress bars."""

    trial: Trial
    phase: str
    rate_rps: float | None = None
    level_elapsed_s: float | None = None


class Interrupted(Exception):  # no error of the user's: the runner is told to let go
    """The study was aborted, or another worker took it, while the trial ran."""


class _NoRoom(Unavailable):
    """What is not this study's (a rollout, live replicas) holds the GPUs. They come back."""


@dataclass(frozen=True)
class TrialEngines:
    """Runs a trial's engines on a fleet. `check` is called often and raises Interrupted when the trial must end.

    `adapters` loads what `tuning.adapters` names; None: nothing here can. `warm_up` brings engines that compile at
    first use to their steady state; None: they are measured as they come up.
    """

    fleet: Fleet
    clock: Clock
    sleep: Callable[[float], None]
    check: Callable[[], None]
    on_progress: Callable[[TrialProgress], None]
    save: Callable[[Trial], None]
    adapters: AdapterLoader | None = None
    warm_up: Callable[[Trial, ServiceSpec, Sequence[Engine]], WarmUp] | None = None

    def run(self, trial: Trial, spec: ServiceSpec, measure: Measure) -> Trial:
        """Return the trial that `measure` finished. The engines are gone when this returns or raises.

        Refused flags and engines that cannot start make it infeasible, a broken world makes it failed. Raises
        Interrupted.
        """
        try:
            engines = self._started(_engine_specs(trial, spec), trial, spec)
            trial = trial.evolve(waited_s=_s(engines[0].started_at - trial.started_at))
            if (broken := self._not_started(trial, engines)) is not None:
                return broken
            self._load_adapters(trial, engines, spec)
            ready = trial.evolve(startup_s=max((e.startup_s for e in engines if e.startup_s is not None), default=None))
            self.save(ready)
            return measure(self._warmed(ready, engines, spec), engines)
        except InvalidInput as error:
            return self.ended(trial, TrialState.INFEASIBLE, str(error))
        except _NoRoom as error:
            waited = trial.evolve(
                waited_s=_s(self.clock() - trial.started_at), start_failure=StartFailure.UNSCHEDULABLE
            )
            return self.ended(waited, TrialState.FAILED, str(error))
        except Unavailable as error:
            return self.ended(trial, TrialState.FAILED, str(error))
        finally:
            for engine in _insisted(self.fleet.list, self.sleep):
                if _is_of(engine.spec.engine_id, trial):
                    remove_engine(self.fleet, engine.spec.engine_id, sleep=self.sleep)

    def grow(self, trial: Trial, spec: ServiceSpec) -> tuple[Trial, Engine | None]:
        """Start one more engine beside those that run; return the trial with it, ended when it did not start.

        Raises Interrupted, Unavailable when no GPUs are free for it.
        """
        larger = trial.evolve(replicas=trial.replicas + 1)
        self.save(larger)
        (engine,) = self._started(_engine_specs(larger, spec)[-1:], larger, spec)
        if (broken := self._not_started(larger, [engine])) is not None:
            return broken, None
        self._load_adapters(larger, [engine], spec)
        return self._warmed(larger, [engine], spec), engine

    def died(self, trial: Trial, engines: Sequence[Engine]) -> Trial | None:
        """Return the ended trial when an engine died under load, else None."""
        for engine in engines:
            seen = self.fleet.observe(engine.spec.engine_id)
            if seen.state is not EngineState.READY:
                return self._broken(trial, seen, seen.failure or StartFailure.CRASHED, "engine died under load")
        return None

    def settle(self, engine: Engine) -> None:
        """Let the last level's requests finish."""
        deadline = self.clock().timestamp() + _DRAIN_WAIT_S
        while self.fleet.in_flight(engine.spec.engine_id) and self.clock().timestamp() < deadline:
            self.check()
            self.sleep(_POLL_S)

    def ended(self, trial: Trial, state: TrialState, reason: str | None) -> Trial:
        """Return the trial as over now. Its reason also says when its engines were not steady before."""
        note = None if trial.warm_up is None else trial.warm_up.note
        said = "; ".join(each for each in (reason, note) if each is not None)
        return trial.evolve(state=state, reason=said or None, finished_at=self.clock())

    def _started(self, wanted: Sequence[EngineSpec], trial: Trial, spec: ServiceSpec) -> list[Engine]:
        """Start the engines side by side and wait until each is ready or failed."""
        engines = [self._start_when_free(each, trial, spec) for each in wanted]
        deadline = self.clock().timestamp() + wanted[0].start_timeout_s + _STOP_WAIT_S
        while any(e.state is EngineState.STARTING for e in engines) and self.clock().timestamp() < deadline:
            self._tick(trial, _starting(wanted))
            engines = [self.fleet.observe(each.engine_id) for each in wanted]
        return engines

    def _load_adapters(self, trial: Trial, engines: Sequence[Engine], spec: ServiceSpec) -> None:
        """Load what trials are to ask for. Raises InvalidInput for what an engine refuses, Unavailable."""
        wanted, loader = spec.tuning.adapters or {}, self.adapters
        if not wanted:
            return
        if loader is None:
            raise Unavailable("adapters cannot be loaded here", why="this worker has nothing that loads them")
        for engine, (name, adapter) in itertools.product(engines, wanted.items()):
            self.check()
            self.on_progress(TrialProgress(trial, f"loading the adapter {name}"))
            loader.load(engine, name, adapter.path)

    def _warmed(self, trial: Trial, engines: Sequence[Engine], spec: ServiceSpec) -> Trial:
        """Return the trial with how its fresh engines were warmed up, where their kind compiles at first use."""
        if self.warm_up is None or not spec.engine.compiles_at_first_use:
            return trial
        found = self.warm_up(trial, spec, engines)
        warm = trial.evolve(warm_up=found if trial.warm_up is None else trial.warm_up.and_then(found))
        self.save(warm)
        return warm

    def _tick(self, trial: Trial, phase: str) -> None:
        self.check()
        self.on_progress(TrialProgress(trial, phase))
        self.sleep(_POLL_S)

    def _start_when_free(self, wanted: EngineSpec, trial: Trial, spec: ServiceSpec) -> Engine:
        """Wait for GPUs: a moment for those of an engine that just ended, as long as it takes for another trial's."""
        deadline = self.clock().timestamp() + _GPU_WAIT_S
        while True:
            self.on_progress(TrialProgress(trial, _starting([wanted])))
            try:
                spot = may_be_spot(trial, spec) and self.fleet.free_gpus(spot=True) >= wanted.gpus
                return self.fleet.start(wanted.evolve(spot=spot))
            except Unavailable as error:
                if self.clock().timestamp() >= deadline and not self._others_measure(wanted):
                    raise _NoRoom(error.what, why=error.why, allowed=error.allowed) from error
            self._tick(trial, "waiting for free GPUs")

    def _others_measure(self, wanted: EngineSpec) -> bool:
        beside = [e.spec for e in self.fleet.list() if not e.state.is_over and e.spec.owner != wanted.owner]
        return any(isinstance(spec.owner, TrialOwner) for spec in beside)

    def _not_started(self, trial: Trial, engines: Sequence[Engine]) -> Trial | None:
        for engine in engines:
            if engine.state is not EngineState.READY:
                return self._broken(trial, engine, engine.failure or StartFailure.TIMEOUT, "engine did not start")
        return None

    def _broken(self, trial: Trial, engine: Engine, failure: StartFailure, what: str) -> Trial:
        state = TrialState.INFEASIBLE if failure.is_infeasible else TrialState.FAILED
        detail = engine.failure_detail or "no reason in the log"
        if engine.spec.spot and not failure.is_infeasible:
            detail += "; it ran on spot GPUs, which may have been taken back"
        return self.ended(trial.evolve(start_failure=failure), state, f"{what} ({failure.in_words}): {detail}")


def _s(waited: timedelta) -> float:
    return max(0.0, waited.total_seconds())


def may_be_spot(trial: Trial, spec: ServiceSpec) -> bool:
    """Say whether a trial may run on spot GPUs. What its last attempt dies of is held against its configuration, and
    to be taken back is not its doing: that one runs on demand.
    """
    return spec.spot is not None and spec.spot.trials and trial.attempt < MAX_ATTEMPTS


def free_for_trials(fleet: Fleet, spec: ServiceSpec) -> int:
    """Return how many GPUs are free for trials of a service."""
    return fleet.free_gpus(spot=None if spec.spot is not None and spec.spot.trials else False)


def engine_ids(trial: Trial) -> tuple[EngineId, ...]:
    """Return the ids of a trial's engines: new ones per attempt, so that a retry never meets the last one's corpse."""
    name = _name(trial)
    if trial.replicas == 1 and trial.kind is not TrialKind.CONFIRM_FLEET:
        return (EngineId(name),)
    return tuple(EngineId(f"{name}-{replica}") for replica in range(trial.replicas))


def _name(trial: Trial) -> str:
    return f"trial-{trial.study_id}-{trial.number}-{trial.attempt}".lower()


def _is_of(engine: EngineId, trial: Trial) -> bool:
    """Say whether an engine is one of this attempt's, those that joined it later among them."""
    name = _name(trial)
    return engine == name or (engine.startswith(f"{name}-") and engine.removeprefix(f"{name}-").isdigit())


def owner(trial: Trial) -> TrialOwner:
    """Return what a trial's engines are labelled with."""
    return TrialOwner(trial.study_id, trial.number)


def remove_engine(fleet: Fleet, engine: EngineId, *, sleep: Callable[[float], None]) -> None:
    """Stop an engine at once, wait until it is gone and forget it. Unknown engines are ignored.

    Raises Unavailable when the fleet cannot be reached for long.
    """
    try:
        seen = _insisted(partial(fleet.stop, engine, drain_s=0), sleep)
        for _ in range(int(_STOP_WAIT_S / _POLL_S)):
            if seen.state.is_over:
                _insisted(partial(fleet.forget, engine), sleep)
                return
            sleep(_POLL_S)
            seen = _insisted(partial(fleet.observe, engine), sleep)
    except NotFound:
        return


def _insisted(act: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Return what a call that may be repeated returns, repeated while the fleet cannot be reached or changed.

    At the end of a trial there is a measurement to lose. Raises Unavailable when that lasts.
    """
    for _ in range(int(_AWAY_S / _POLL_S)):
        try:
            return act()
        except Unavailable:
            sleep(_POLL_S)
    return act()


def _starting(wanted: Sequence[EngineSpec]) -> str:
    return "starting the engine" if len(wanted) == 1 else f"starting {len(wanted)} engines"


def _engine_specs(trial: Trial, spec: ServiceSpec) -> list[EngineSpec]:
    def of(engine: EngineId) -> EngineSpec:
        return engine_spec(
            engine, owner(trial), model=spec.model, engine=spec.engine, gpus=spec.gpus, config=trial.config
        )

    return [of(engine) for engine in engine_ids(trial)]
