"""Several workers on one study: who does what is decided from the store, and a lost worker's trial is done again."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.domain.base import TrialId
from controlplane.domain.studies.study import STUDY_LEASE_S, StudyState, Trial, TrialKind, TrialState
from controlplane.services.studies.run_study import StudyProgress, StudyRunner
from controlplane.services.studies.trial_engine import Interrupted
from tests.unit.studies.study_world import STUDY, Killed, World, pending, service_spec, trials
from tuner.answer.policy import Action, Spent, next_step

USED = Spent(0, 0.0, 0.0)


class Helper:
    """A second worker that works while the first stands still in a level, until it has to wait for it."""

    def __init__(self, world: World, *, at_trial: int = 0) -> None:
        self._world = world
        self._at_trial = at_trial
        self._busy = False
        self.ran: list[int] = []
        self.waited_for: list[str] = []
        self.gpus_seen: list[int] = []

    def interleave(self, progress: StudyProgress) -> None:
        """Called by the first worker as its study goes on."""
        trial = progress.trial
        if self._busy or trial is None or trial.number != self._at_trial or progress.message != "level":
            return
        self._busy = True
        before = len(trials(self._world))
        runner = self._world.runner("w2", on_progress=self._show)
        runner.join(STUDY)
        self.ran = [t.number for t in trials(self._world)[before:]]

    def _show(self, progress: StudyProgress) -> None:
        self._world.store.heartbeat(STUDY, "w1", now=self._world.clock())  # the first one lives
        self.gpus_seen.append(self._world.fleet.free_gpus())
        if progress.trial is None:
            self.waited_for.append(progress.message)
            raise Interrupted


def test_while_one_measures_the_baseline_the_other_searches_and_waits_for_what_it_cannot_decide_alone(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    pending(world)
    helper = Helper(world)
    study = world.runner("w1", on_progress=helper.interleave).run_next()
    assert study is not None
    assert study.state is StudyState.DONE
    done = trials(world)
    assert helper.ran
    assert {done[number].kind for number in helper.ran} == {TrialKind.SEARCH}
    assert {done[number].worker for number in helper.ran} == {"w2"}
    assert helper.waited_for[0].startswith("waits for the trials of others")
    rounds = [TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE]
    assert [t.kind for t in done[-3:]] == [*rounds, TrialKind.CONFIRM_FLEET]
    assert study.engine_starts == sum(t.replicas for t in done) <= world.spec.tuning.budget.engine_starts
    assert study.recommendation is not None
    assert study.recommendation.improvement
    assert not world.fleet.list()


def test_no_configuration_is_searched_twice_and_every_number_is_one_trial(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)
    helper = Helper(world, at_trial=1)
    assert world.runner("w1", on_progress=helper.interleave).run_next() is not None
    done = trials(world)
    assert [t.number for t in done] == list(range(len(done)))
    searched = Counter(t.config.content_hash() for t in done if t.kind in (TrialKind.SEARCH, TrialKind.BASELINE))
    assert max(searched.values()) == 1
    assert {t.worker for t in done} == {"w1", "w2"}


def test_a_helper_waits_when_the_gpus_are_taken(tmp_path: Path) -> None:
    gpus = {"type": "H200", "count": 1, "price_usd_per_gpu_hour": 4}
    world = World(tmp_path, spec=service_spec(gpus=gpus))
    pending(world)
    helper = Helper(world)
    assert world.runner("w1", on_progress=helper.interleave).run_next() is not None
    assert helper.ran == []
    assert helper.waited_for == ["waits for free GPUs"]


def test_both_halves_of_a_confirmation_are_measured_side_by_side(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)
    assert world.runner().run_next() is not None
    number = next(t.number for t in trials(world) if t.kind is TrialKind.CONFIRM_WINNER)
    again = World(tmp_path / "again")
    again.folder.mkdir()
    pending(again)
    helper = Helper(again, at_trial=number)
    study = again.runner("w1", on_progress=helper.interleave).run_next()
    assert study is not None
    assert helper.ran == [number + 1]
    assert trials(again)[number + 1].kind is TrialKind.CONFIRM_BASELINE
    assert helper.waited_for == ["waits for the other half of the confirmation"]


def test_a_lost_workers_trial_is_done_again_by_the_other_and_its_engine_removed(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)

    def kill(progress: StudyProgress) -> None:
        if progress.trial is not None and progress.trial.number == 1 and progress.message == "level":
            raise Killed

    other = _started_beside(world)
    with pytest.raises(Killed):
        world.runner("w1", on_progress=kill).run_next()
    # kill -9 leaves the engine and the claim, which this process's `finally` has removed: put both back.
    world.store.join_study(STUDY, "w1", now=world.clock(), lease_s=STUDY_LEASE_S)
    lost = trials(world)[1]
    assert lost.state is TrialState.RUNNING
    world.clock.go_on(STUDY_LEASE_S + 1)
    study = other.run_next()
    assert study is not None
    assert study.state is StudyState.DONE
    redone = trials(world)[1]
    assert (redone.worker, redone.attempt) == ("w2", 2)
    assert redone.config == lost.config
    assert not world.fleet.list()


def test_what_the_twin_expected_of_a_trial_outlives_the_worker_that_was_lost_starting_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)

    def kill(progress: StudyProgress) -> None:
        if progress.trial is not None and progress.trial.number == 1:
            raise Killed

    with pytest.raises(Killed):
        world.runner("w1", on_progress=kill).run_next()
    assert trials(world)[1].predicted["capacity_rps"] > 0


def _started_beside(world: World) -> StudyRunner:
    return world.runner("w2")


def test_a_living_workers_engine_is_left_alone_by_one_that_joins(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)
    helper = Helper(world)
    seen: list[set[str]] = []

    def look(progress: StudyProgress) -> None:
        helper.interleave(progress)
        seen.append({str(engine.spec.owner) for engine in world.fleet.list()})

    study = world.runner("w1", on_progress=look).run_next()
    assert study is not None
    assert trials(world)[0].attempt == 1
    assert trials(world)[0].state is TrialState.FEASIBLE


def a_trial(number: int, kind: TrialKind, worker: str, state: TrialState = TrialState.RUNNING) -> Trial:
    world_spec = service_spec()
    return Trial(
        trial_id=TrialId(f"{STUDY}-{number}"),
        study_id=STUDY,
        number=number,
        kind=kind,
        config=world_spec.baseline,
        state=state,
        started_at=World(Path()).clock() + timedelta(seconds=number),
        worker=worker,
    )


def test_a_running_trial_of_a_living_worker_is_no_reason_to_retry_and_of_a_lost_one_it_is() -> None:
    running = [a_trial(0, TrialKind.BASELINE, "w1")]
    alive = next_step(service_spec(), running, USED, search_over=None, others={"w1"})
    assert alive.action is Action.SEARCH
    lost = next_step(service_spec(), running, USED, search_over=None, others={"w3"})
    assert (lost.action, lost.trial) == (Action.RETRY, running[0])


def test_nothing_is_concluded_while_a_trial_runs() -> None:
    running = [a_trial(0, TrialKind.BASELINE, "w1")]
    step = next_step(service_spec(), running, USED, search_over="every candidate was tried", others={"w1"})
    assert step.action is Action.WAIT
