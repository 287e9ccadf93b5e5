"""A fleet check that held goes on with one replica fewer, where that may do: when, with what load, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Level, Trial, TrialKind, TrialState
from controlplane.services.studies.conclude import conclusion
from controlplane.services.studies.run_study import StudyProgress
from controlplane.services.studies.trial_plan import with_cost
from tests.unit.studies.study_world import Killed, World, pending, service_spec, trials
from tests.unit.tuner.answer.measured_trials import NOW, a_level, a_study, a_trial
from tuner.answer.fewer import cannot_shrink, check_rps, told
from tuner.answer.fleet_check import Move, checked, next_move
from tuner.answer.plan import lacks_time
from tuner.answer.policy import Spent
from tuner.answer.standing import standings

FAST = EngineConfig(flags={"max-num-seqs": 256})
TARGET, NEED = 40.0, 40.0 / 0.85


def spec_of(**tuning: object) -> ServiceSpec:
    spec = service_spec(tuning={"budget": {"engine_starts": 20}} | tuning)
    objective = spec.tuning.objective.evolve(headroom=0.15)
    slos = spec.slos.evolve(target_qps=TARGET)
    return spec.evolve(slos=slos, gpus=spec.gpus.evolve(count=8), tuning=spec.tuning.evolve(objective=objective))


def study_of(spec: ServiceSpec, capacity_rps: float) -> list[Trial]:
    """Return a baseline that needs seven GPUs and a candidate that was found and confirmed with a capacity."""
    kinds = (TrialKind.BASELINE, TrialKind.SEARCH, TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)
    return [
        a_trial(
            spec, number, kind, FAST if number in (1, 2) else spec.baseline, capacity_rps if number in (1, 2) else 7
        )
        for number, kind in enumerate(kinds)
    ]


def check_of(spec: ServiceSpec, replicas: int, *levels: Level, held: int | None = None, over: bool = False) -> Trial:
    state = TrialState.FEASIBLE if over else TrialState.RUNNING
    fields = {"replicas": replicas, "levels": levels, "state": state, "held_replicas": held}
    return a_trial(spec, 9, TrialKind.CONFIRM_FLEET, FAST, None, **fields)


def of(spec: ServiceSpec, replicas: int, *, passed: bool, rate_rps: float = TARGET) -> Level:
    return a_level(spec, rate_rps, passed=passed, completed=2000, replicas=replicas)


def test_one_fewer_is_tried_where_it_may_do_and_not_where_it_hardly_can() -> None:
    spec = spec_of()
    held = check_of(spec, 3, of(spec, 3, passed=True), held=3)
    assert cannot_shrink(spec, study_of(spec, 24.0), held) is None
    assert cannot_shrink(spec, study_of(spec, 14.0), held) == "2 would hardly do"


def test_what_missed_before_and_the_last_replica_are_not_tried_without() -> None:
    spec = spec_of()
    grown = check_of(spec, 3, of(spec, 2, passed=False), of(spec, 3, passed=True), held=3)
    assert cannot_shrink(spec, study_of(spec, 24.0), grown) == "2 missed before"
    one = check_of(spec, 1, of(spec, 1, passed=True), held=1)
    assert cannot_shrink(spec, study_of(spec, 60.0), one) == "there is none to do without"


def test_the_replicas_left_carry_the_target_with_its_headroom() -> None:
    spec = spec_of()
    assert check_rps(spec, TARGET, check_of(spec, 3)) == TARGET
    assert check_rps(spec, TARGET, check_of(spec, 3, held=3)) == pytest.approx(NEED)


def test_fewer_are_enough_when_they_held_the_headroom_as_well() -> None:
    spec, before = spec_of(), study_of(spec_of(), 25.0)
    three, two = of(spec, 3, passed=True), of(spec, 2, passed=True, rate_rps=NEED)
    assert next_move(spec, before, check_of(spec, 3, three, held=3)) is Move.AGAIN
    assert next_move(spec, before, check_of(spec, 3, three, two, held=3)) is Move.HELD
    missed = of(spec, 2, passed=False, rate_rps=NEED)
    assert next_move(spec, before, check_of(spec, 3, three, missed, missed, held=3)) is Move.ENOUGH


def test_the_answer_is_the_fewest_that_held_and_says_how_many_were_started() -> None:
    spec, before = spec_of(), study_of(spec_of(), 25.0)
    levels = of(spec, 3, passed=True), of(spec, 2, passed=True, rate_rps=NEED)
    check = with_cost(spec, check_of(spec, 3, *levels, held=2, over=True))
    (found,) = standings(spec, [*before, check])
    said = checked([*before, check], found, unchecked=None)
    assert (found.fleet.replicas, found.is_held, said.replicas) == (2, True, 2)
    assert said.rate_rps == pytest.approx(NEED)
    assert check.fleet is not None
    assert check.fleet.replicas == 2
    answered = conclusion(a_study(spec), [*before, check], stopped_because="budget", now=NOW)
    assert not isinstance(answered, str)
    assert "they held 47.1 requests/s (3 were started, 2 are enough)" in answered.summary


def test_what_the_one_left_out_was_there_for_is_said() -> None:
    spec = spec_of()
    levels = of(spec, 3, passed=True), of(spec, 2, passed=False, rate_rps=NEED)
    check = check_of(spec, 3, *levels, held=3, over=True)
    assert told(check) == "2 missed 47.1 requests/s, the target with its headroom"
    (found,) = standings(spec, [*study_of(spec, 20.0), check])
    assert found.fleet.replicas == 3


def test_a_level_more_takes_time_of_the_budget() -> None:
    spec = spec_of(budget={"engine_starts": 20, "wall_clock_s": 1000, "gpu_hours": 1})
    check = check_of(spec, 3)
    assert lacks_time(spec, Spent(9, 100.0, 100.0), check, 60.0) is None
    assert lacks_time(spec, Spent(9, 100.0, 999.0), check, 60.0) == "the budget of 1000 s holds no further level"
    assert lacks_time(spec, Spent(9, 3590.0, 1.0), check, 60.0) == "the budget of 1 GPU-hours holds no further level"


def small_world(folder: Path, patched: pytest.MonkeyPatch) -> World:
    """Return a world whose check of two replicas goes on with one, though that can hardly do."""
    tuning = {
        "space": {"quantization": {"choices": [None, "fp8"]}},
        "budget": {"engine_starts": 10},
        "levels": {"min_s": 10, "max_s": 20, "warmup_s": 1, "precision": 0.2},
    }
    patched.setattr("controlplane.services.studies.lab.cannot_shrink", lambda *_: None)
    world = World(folder, spec=service_spec(tuning=tuning))
    pending(world)
    return world


def the_check(world: World) -> Trial:
    (check,) = [trial for trial in trials(world) if trial.kind is TrialKind.CONFIRM_FLEET]
    return check


def test_a_check_goes_on_in_the_same_engines_and_keeps_what_held_when_fewer_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world(tmp_path, monkeypatch)
    study = world.runner().run_next()
    check = the_check(world)
    assert study is not None
    assert study.recommendation is not None
    assert {level.replicas for level in check.levels} == {2, 1}
    assert (check.state, check.attempt, check.held_together) == (TrialState.FEASIBLE, 1, 2)
    assert study.recommendation.fleet.replicas == 2
    assert "1 missed" in study.recommendation.summary
    assert check.reason is not None
    assert any(check.reason in (event.reason or "") for event in world.store.list_events())


def test_a_worker_killed_while_fewer_are_loaded_is_followed_by_one_that_goes_on_and_answers_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    world, whole = (small_world(tmp_path / name, monkeypatch) for name in ("killed", "whole"))

    def kill(progress: StudyProgress) -> None:
        if progress.message.startswith("opening a gateway to 1 of 2"):
            raise Killed

    with pytest.raises(Killed):
        world.runner("w1", on_progress=kill).run_next()
    assert the_check(world).held_replicas == 2
    world.clock.go_on(60)
    after, usual = world.runner("w2").run_next(), whole.runner().run_next()
    assert after is not None
    assert usual is not None
    assert after.recommendation is not None
    assert usual.recommendation is not None
    assert after.recommendation.fleet == usual.recommendation.fleet
    assert after.recommendation.answer is usual.recommendation.answer
    rates, as_usual = ([level.rate_rps for level in the_check(each).levels] for each in (world, whole))
    assert rates == as_usual
    assert not world.fleet.list()
