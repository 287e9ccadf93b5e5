"""Nodes that are lost, for a minute or for good: a study waits for what its answer hangs on, and says so."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Conflict, Unavailable
from controlplane.domain.studies.study import Study, StudyState, TrialKind, TrialState
from controlplane.services.studies.manage import resume_study
from controlplane.services.studies.run_study import StudyProgress
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.store import FakeStore
from tests.fakes.twin_load import TwinLoadTester
from tests.unit.studies.study_world import SHORT, STUDY, World, pending, service_spec, trials
from tuner.answer.attempts import MAX_ATTEMPTS, PATIENCE_S, PATIENT_ATTEMPTS

SMALL = {"max-num-seqs": {"choices": [64, 256]}, "max-num-batched-tokens": {"choices": [2048, 8192]}}


class FlappingFleet(FakeFleet):
    """Loses the node of every engine of one kind of trial, up to and including an attempt."""

    def __init__(self, *, store: FakeStore, clock: FakeClock, kind: TrialKind, up_to: int) -> None:
        super().__init__(gpus=4, clock=clock)
        self._store, self._kind, self._up_to = store, kind, up_to

    def observe(self, engine_id: EngineId) -> Engine:
        engine = super().observe(engine_id)
        number, attempt = (int(part) for part in engine_id.removeprefix(f"trial-{STUDY}-").split("-")[:2])
        kinds = {trial.number: trial.kind for trial, _ in self._store.list_trials(STUDY)}
        if engine.state.is_over or kinds[number] is not self._kind or attempt > self._up_to:
            return engine
        lost = engine.evolve(state=EngineState.FAILED, failure=StartFailure.NODE_LOST, failure_detail="it is gone")
        return self._keep(lost)


class TakenFleet(FakeFleet):
    """All GPUs are a rollout's for so many seconds."""

    def __init__(self, *, clock: FakeClock, for_s: float) -> None:
        super().__init__(gpus=4, clock=clock)
        self._until = clock() + timedelta(seconds=for_s)

    def start(self, spec: EngineSpec) -> Engine:
        if self.clock() < self._until:
            raise Unavailable(f"no {spec.gpus} GPUs for engine {spec.engine_id}", why="0 are free")
        return super().start(spec)


def flapping(folder: Path, *, kind: TrialKind, up_to: int) -> World:
    tuning = {"space": SMALL, "budget": {"engine_starts": 6}, "levels": SHORT}
    world = World(folder, spec=service_spec(tuning=tuning))
    world.fleet = FlappingFleet(store=world.store, clock=world.clock, kind=kind, up_to=up_to)
    world.load = TwinLoadTester(world.fleet, world.clock, gpu="H200", gateways=world.gateways, seed=1)
    pending(world)
    return world


def ended(world: World, said: list[str]) -> Study:
    def show(progress: StudyProgress) -> None:
        said.append(progress.message)

    study = world.runner(on_progress=show).run_next()
    assert study is not None
    return study


def test_a_baseline_that_lost_its_node_three_times_is_measured_when_there_is_one_again(tmp_path: Path) -> None:
    world, said = flapping(tmp_path, kind=TrialKind.BASELINE, up_to=3), list[str]()
    study = ended(world, said)
    baseline = trials(world)[0]
    assert (study.state, baseline.state, baseline.attempt) == (StudyState.DONE, TrialState.FEASIBLE, 4)
    assert study.recommendation is not None
    why = "the baseline could not be measured 3 times: engine did not start (node lost): it is gone"
    assert f"{why}; next attempt in 60 s" in said
    told = [event.reason for event in world.store.list_events(limit=1000) if event.action == "trial.waits"]
    assert [reason.rsplit(" ", 2)[-2] for reason in reversed(told)] == ["15", "30", "60"]
    assert world.fleet.list() == []


def test_a_winner_is_not_thrown_away_with_the_nodes_of_its_confirmation(tmp_path: Path) -> None:
    world = flapping(tmp_path, kind=TrialKind.CONFIRM_WINNER, up_to=4)
    study = ended(world, [])
    again = [trial for trial in trials(world) if trial.kind is TrialKind.CONFIRM_WINNER]
    assert [(trial.state, trial.attempt) for trial in again[:1]] == [(TrialState.FEASIBLE, 5)]
    assert study.recommendation is not None
    assert again[0].trial_id in study.recommendation.evidence.trial_ids


def test_a_place_that_stays_away_ends_the_study_within_bounds_and_it_goes_on_when_told_to(tmp_path: Path) -> None:
    world = flapping(tmp_path, kind=TrialKind.BASELINE, up_to=PATIENT_ATTEMPTS)
    failed = ended(world, [])
    assert failed.state is StudyState.FAILED
    assert failed.reason is not None
    assert failed.reason.startswith(f"the baseline could not be measured in {PATIENT_ATTEMPTS} attempts")
    assert failed.started_at is not None
    assert failed.finished_at is not None
    assert (failed.finished_at - failed.started_at).total_seconds() <= PATIENCE_S + 300
    resume_study(world.store, STUDY, actor="me", now=world.clock())
    study = ended(world, [])
    assert (study.state, study.reason is not None) == (StudyState.DONE, True)
    assert trials(world)[0].attempt == PATIENT_ATTEMPTS + 1
    assert study.recommendation is not None
    with pytest.raises(Conflict, match="is done"):
        resume_study(world.store, STUDY, actor="me", now=world.clock())


def test_a_flag_that_the_engine_refuses_is_not_waited_for(tmp_path: Path) -> None:
    world, said = flapping(tmp_path, kind=TrialKind.BASELINE, up_to=0), list[str]()
    world.fleet = Refusing(gpus=4, clock=world.clock)
    study = ended(world, said)
    assert trials(world)[0].attempt == 1
    assert not any("next attempt" in message for message in said)
    assert study.state is StudyState.FAILED


class Refusing(FakeFleet):
    """Refuses a flag of every engine."""

    def observe(self, engine_id: EngineId) -> Engine:
        engine = super().observe(engine_id)
        if engine.state.is_over:
            return engine
        refused = {"failure": StartFailure.REFUSED_FLAG, "failure_detail": "no such flag"}
        return self._keep(engine.evolve(state=EngineState.FAILED, **refused))


def taken(folder: Path, for_s: float) -> World:
    folder.mkdir()
    tuning = {"space": SMALL, "budget": {"engine_starts": 6}, "levels": SHORT}
    world = World(folder, spec=service_spec(tuning=tuning))
    world.fleet = TakenFleet(clock=world.clock, for_s=for_s)
    world.load = TwinLoadTester(world.fleet, world.clock, gpu="H200", gateways=world.gateways, seed=1)
    pending(world)
    return world


def test_a_study_outlasts_a_rollout_that_holds_the_gpus_and_is_not_charged_for_it(tmp_path: Path) -> None:
    free, world = taken(tmp_path / "free", for_s=0), taken(tmp_path / "taken", for_s=900)
    said = list[str]()
    at_once, study = ended(free, []), ended(world, said)
    assert (study.state, trials(world)[0].state) == (StudyState.DONE, TrialState.FEASIBLE)
    assert trials(world)[0].attempt > MAX_ATTEMPTS
    why = f"the baseline could not be measured once: no 1 GPUs for engine trial-{STUDY}-0-1: 0 are free"
    assert f"{why}; next attempt in 15 s" in said
    assert study.gpu_seconds == pytest.approx(at_once.gpu_seconds, rel=0.05)
