"""A whole study on emulated engines: what it finds, and that nothing is lost or repeated when its worker dies."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import optuna
import pytest

from controlplane.domain.report import Validity
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Study, StudyState, TrialKind, TrialState
from controlplane.domain.workload import TracePart, TraceWorkload
from controlplane.services.studies.conclude import conclusion
from controlplane.services.studies.run_study import StudyProgress, StudyRunner
from loadtests.measure.engine_lag import LagHistogram
from tests.unit.studies.study_world import LONG, SHORT, SPACE, STUDY, Killed, World, pending, service_spec, trials

FEW = {
    "space": {"quantization": {"choices": [None, "fp8"]}, "max-num-seqs": {"choices": [64, 256]}},
    "levels": SHORT,
}


def finished(world: World) -> Study:
    study = world.runner().run_next()
    assert study is not None
    return study


class Ran(NamedTuple):
    world: World
    study: Study
    folder: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A whole study, for what is only looked at."""
    folder = tmp_path_factory.mktemp("study")
    world = World(folder, spec=service_spec(tuning={"space": SPACE, "budget": {"engine_starts": 10}, "levels": LONG}))
    pending(world)
    return Ran(world, finished(world), folder)


def test_a_study_measures_the_baseline_first_and_confirms_its_winner_in_turn(ran: Ran) -> None:
    world, study, _ = ran
    kinds = [trial.kind for trial in trials(world)]
    assert study.state is StudyState.DONE
    assert kinds[0] is TrialKind.BASELINE
    assert kinds[-3:] == [TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE, TrialKind.CONFIRM_FLEET]
    assert study.recommendation is not None
    assert study.recommendation.answer is Answer.IMPROVEMENT
    assert study.recommendation.evidence.cost_ratio < 1
    assert study.recommendation.config.flags["quantization"] == "fp8"


def test_a_study_stays_within_its_engine_starts_and_leaves_no_engine(ran: Ran) -> None:
    world, study, folder = ran
    _check_kept_times(world, folder)
    assert study.engine_starts <= world.spec.tuning.budget.engine_starts
    assert study.engine_starts == sum(trial.replicas for trial in trials(world))
    assert study.gpu_seconds > 0
    assert not world.fleet.list()
    _check_told_alike(world, folder)


def test_confirmations_use_arrivals_the_search_never_saw(ran: Ran) -> None:
    world = ran.world
    parts = {level.workload.part for level in world.load.levels if isinstance(level.workload, TraceWorkload)}
    assert len({level.seed for level in world.load.levels}) == 3  # the search, a round, the fleet check
    assert parts == {TracePart.SEARCH, TracePart.HELD_OUT}


def test_no_improvement_is_an_answer(tmp_path: Path) -> None:
    space = {"max-num-seqs": {"choices": [512, 1024]}}
    world = World(tmp_path, spec=service_spec(tuning={"space": space, "levels": {"min_s": 10, "max_s": 30}}))
    pending(world)
    study = finished(world)
    assert study.recommendation is not None
    assert not study.recommendation.improvement
    assert study.recommendation.summary.startswith("no improvement")
    assert study.recommendation.config == world.spec.baseline


def test_limits_nothing_can_meet_end_the_study_with_how_far_the_best_got(tmp_path: Path) -> None:
    slos = {"latency": [{"metric": "tpot_ms", "percentile": 95, "limit_ms": 1.5}], "target_qps": 40}
    world = World(tmp_path, spec=service_spec(slos=slos))
    pending(world)
    study = finished(world)
    assert study.state is StudyState.FAILED
    assert study.reason is not None
    assert "closest was trial" in study.reason
    assert "P95 TPOT ≤ 1.5 ms measured" in study.reason


@pytest.mark.parametrize("at_message", [1, 4, 9, 17])
def test_a_killed_worker_loses_and_repeats_no_finished_trial(tmp_path: Path, at_message: int) -> None:
    world = World(tmp_path)
    pending(world)
    seen: list[StudyProgress] = []

    def kill(progress: StudyProgress) -> None:
        seen.append(progress)
        if len(seen) == at_message * 20:
            raise Killed

    with pytest.raises(Killed):
        world.runner("w1", on_progress=kill).run_next()
    before = {t.trial_id: t for t in trials(world) if t.state is not TrialState.RUNNING}
    world.clock.go_on(60)
    study = world.runner("w2").run_next()
    assert study is not None
    assert study.state is StudyState.DONE
    after = {t.trial_id: t for t in trials(world)}
    assert {trial_id: after[trial_id] for trial_id in before} == before
    searched = [t.config.content_hash() for t in after.values() if t.kind is TrialKind.SEARCH]
    assert len(searched) == len(set(searched))
    assert not world.fleet.list()


def _held_up(world: World, held_up: Callable[[], bool]) -> StudyRunner:
    """A worker whose emulated engines deliver every token half a second late while the host is held up."""
    delivered = {"punctual": 0.0, "late": 0.0}

    def lag(_: str) -> LagHistogram:
        delivered["late" if held_up() else "punctual"] += 1000
        both = delivered["punctual"] + delivered["late"]
        return LagHistogram((0.01, 0.5, math.inf), (delivered["punctual"], both, both))

    return dataclasses.replace(world.runner(), engine_lag=lag)


def test_what_sends_the_load_is_given_back_with_every_trial(ran: Ran) -> None:
    assert ran.world.load.rests == sum(trial.attempt for trial in trials(ran.world))


def test_a_spoilt_level_is_loaded_again_in_the_same_engine(tmp_path: Path) -> None:
    world = World(tmp_path, spec=service_spec(tuning=FEW | {"levels": LONG}))
    pending(world)
    looks = itertools.count()
    study = _held_up(world, lambda: next(looks) in (5, 12, 13)).run_next()
    assert study is not None
    assert study.recommendation is not None
    assert study.recommendation.answer is Answer.IMPROVEMENT
    assert study.wasted_starts == 0
    assert {trial.attempt for trial in trials(world)} == {1}
    assert any(level.report.validity is Validity.INVALID for trial in trials(world) for level in trial.levels)


def _outrunning(folder: Path, *, target_qps: float, most_rps: float) -> World:
    """A study whose generator sends at most `most_rps`, far less than an engine holds."""
    latency = [each.model_dump(mode="json") for each in service_spec().slos.latency]
    slos = {"latency": latency, "target_qps": target_qps}
    world = World(folder, spec=service_spec(slos=slos, tuning=FEW))
    world.load.most_rps = most_rps
    pending(world)
    return world


def test_an_engine_that_outruns_its_generator_has_been_measured_where_one_replica_is_enough(tmp_path: Path) -> None:
    world = _outrunning(tmp_path, target_qps=2, most_rps=25)
    assert finished(world).state is StudyState.DONE
    assert {trial.attempt for trial in trials(world)} == {1}
    baseline = trials(world)[0]
    assert baseline.state is TrialState.FEASIBLE
    assert baseline.capacity is not None
    assert baseline.capacity.censored
    assert 2 / 0.85 <= baseline.capacity.rps <= 25
    assert "requests were never sent" in (baseline.reason or "")


def test_an_engine_that_outruns_its_generator_is_not_called_small_where_more_would_save_replicas(
    tmp_path: Path,
) -> None:
    world = _outrunning(tmp_path, target_qps=46, most_rps=15)
    study = finished(world)
    assert study.state is StudyState.FAILED
    assert trials(world)[0].capacity is None
    assert "requests were never sent" in (study.reason or "")


def test_nothing_is_said_of_candidates_that_could_not_be_measured(tmp_path: Path) -> None:
    space = {"max-num-seqs": {"choices": [512, 1024]}}
    world = World(tmp_path, spec=service_spec(tuning={"space": space, "levels": {"min_s": 10, "max_s": 30}}))
    pending(world)
    study = _held_up(world, lambda: len(trials(world)) > 1).run_next()
    assert study is not None
    assert study.state is StudyState.FAILED
    assert study.recommendation is None
    assert study.reason is not None
    assert "no candidate could be measured" in study.reason
    assert "load test invalid 3 times" in study.reason


def test_an_answer_names_the_candidates_that_could_not_be_measured(tmp_path: Path) -> None:
    world = World(tmp_path, spec=service_spec(tuning=FEW))
    pending(world)
    study = _held_up(world, lambda: trials(world)[-1].number == 1).run_next()
    assert study is not None
    assert study.recommendation is not None
    assert trials(world)[1].state is TrialState.FAILED
    told = service_spec(slos=dict(world.spec.slos.model_dump(mode="json"), target_qps=2))
    kept = conclusion(study.evolve(spec=told), trials(world), stopped_because="budget", now=world.clock())
    assert not isinstance(kept, str)
    assert kept.answer is Answer.NO_IMPROVEMENT
    assert "budget; 1 more could not be measured: load test invalid 3 times" in kept.summary


def test_broken_load_generators_are_retried_and_never_learnt_from(tmp_path: Path) -> None:
    world = World(tmp_path, breaks=0.1)
    pending(world)
    study = finished(world)
    assert study.state in (StudyState.DONE, StudyState.FAILED)
    assert any(trial.attempt > 1 for trial in trials(world))
    assert all("generator" not in (t.reason or "") for t in trials(world) if t.state is TrialState.INFEASIBLE)


def test_a_paused_study_starts_no_other_trial_and_goes_on_when_resumed(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)

    def pause(progress: StudyProgress) -> None:
        study, version = world.store.get_study(STUDY)
        if progress.trial is not None and progress.trial.number == 1 and study.state is StudyState.RUNNING:
            world.store.save_study(study.evolve(state=StudyState.PAUSED), version)

    paused = world.runner(on_progress=pause).run_next()
    assert paused is not None
    assert paused.state is StudyState.PAUSED
    assert [t.state for t in trials(world)][1:] != [TrialState.RUNNING]
    assert len(trials(world)) == 2
    study, version = world.store.get_study(STUDY)
    world.store.save_study(study.evolve(state=StudyState.PENDING), version)
    assert finished(world).state is StudyState.DONE


def test_an_aborted_study_stops_its_engine_and_leaves_no_running_trial(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)

    def abort(progress: StudyProgress) -> None:
        study, version = world.store.get_study(STUDY)
        if progress.message == "level" and study.state is StudyState.RUNNING:
            world.store.save_study(study.evolve(state=StudyState.ABORTED), version)

    aborted = world.runner(on_progress=abort).run_next()
    assert aborted is not None
    assert aborted.state is StudyState.ABORTED
    assert [t.state for t in trials(world)] == [TrialState.FAILED]
    assert not world.fleet.list()


def _check_told_alike(world: World, folder: Path) -> None:
    """Plain Optuna tells the study's own story."""
    record = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{folder}/optuna.db")
    ours = {trial.optuna_number: trial for trial in trials(world) if trial.optuna_number is not None}
    baseline = record.trials[0]
    assert record.metric_names is not None
    assert record.metric_names[0].startswith("USD per hour at the target")
    assert record.user_attrs["target"] == "46 requests/s"
    assert baseline.user_attrs["kind"] == "baseline"
    assert ours[record.best_trial.number].capacity is not None
    for told in record.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        capacity = ours[told.number].capacity
        assert told.values >= baseline.values or capacity is not None
        assert told.user_attrs.get("capacity_rps") == (None if capacity is None else capacity.rps)


def _check_kept_times(world: World, folder: Path) -> None:
    """What starts and levels took is what the search learns the time of the next trials from."""
    record = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{folder}/optuna.db")
    ours = {trial.optuna_number: trial for trial in trials(world) if trial.optuna_number is not None and trial.levels}
    assert ours
    for told in record.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        assert told.user_attrs["start_s"] == ours[told.number].startup_s
        assert told.user_attrs["levels_s"] > 0
        assert told.user_attrs["host"] == ours[told.number].host
