"""What a study measures next, and when there is nothing left to prove."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.pace import pace_of
from controlplane.domain.studies.study import TrialKind, TrialState
from tests.unit.tuner.answer.made_studies import (
    QUICK,
    answer,
    checked,
    spec_of,
    step_after,
    study_of,
)
from tests.unit.tuner.answer.measured_trials import a_level, a_trial, used
from tuner.answer.fleet_check import kept_replicas
from tuner.answer.fleets import may_need
from tuner.answer.plan import plan_of
from tuner.answer.policy import Action, Spent, exhausted, next_step
from tuner.answer.standing import standings


@pytest.mark.parametrize(("candidate_rps", "action"), [(11.3, Action.CONFIRM_WINNER), (4.0, Action.FINISH)])
def test_what_may_fit_is_measured_again_before_the_target_is_called_out_of_reach(
    candidate_rps: float, action: Action
) -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 12})
    trials = study_of(spec, (1, 3.0), (1, candidate_rps))
    assert answer(spec, trials).answer is Answer.OUT_OF_REACH  # by the best estimate, headroom included
    assert step_after(spec, trials).action is action


@pytest.mark.parametrize(("held", "said"), [(True, Answer.IMPROVEMENT), (False, Answer.OUT_OF_REACH)])
def test_the_largest_fleet_here_is_checked_before_the_target_is_called_out_of_reach(held: bool, said: Answer) -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 12})
    trials = study_of(spec, (1, 3.0), (1, 11.8), rounds=1)
    step = step_after(spec, trials)
    assert step.action is Action.CHECK_FLEET
    assert step.candidate is not None
    assert step.candidate.fleet.replicas == 4
    state = TrialState.FEASIBLE if held else TrialState.INFEASIBLE
    levels = tuple(a_level(spec, 40, passed=held, replicas=4) for _ in range(2))
    config, number = step.candidate.measured.config, len(trials)
    check = a_trial(spec, number, TrialKind.CONFIRM_FLEET, config, None, state=state, replicas=4, levels=levels)
    after = (*trials, check)
    assert step_after(spec, after).action is Action.FINISH
    assert answer(spec, after).answer is said


def test_a_fleet_that_hardly_fits_is_not_checked() -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 12})
    assert step_after(spec, study_of(spec, (1, 3.0), (1, 8.0), rounds=1)).action is Action.FINISH


def test_a_runner_up_is_next_when_the_winner_fails_its_confirmation() -> None:
    spec = spec_of(10, budget={"engine_starts": 20})
    trials = study_of(spec, (1, 4.0), (1, 18.0), (1, 17.0))
    first = step_after(spec, trials)
    assert first.action is Action.CONFIRM_WINNER
    assert first.candidate is not None
    winner = first.candidate.measured.config
    failed = a_trial(spec, len(trials), TrialKind.CONFIRM_WINNER, winner, 4.0)
    again = a_trial(spec, len(trials) + 1, TrialKind.CONFIRM_BASELINE, trials[0].config, 4.0)
    second = step_after(spec, (*trials, failed, again))
    assert second.action is Action.CONFIRM_WINNER
    assert second.candidate is not None
    assert second.candidate.measured.config != winner


def test_starts_that_the_infrastructure_wasted_do_not_use_up_the_search() -> None:
    spec = spec_of(10, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 4.0), (1, 14.0))
    retried = tuple(trial.evolve(attempt=3) for trial in trials)
    assert step_after(spec, retried, over=None).action is Action.SEARCH


def test_a_broken_world_is_no_reason_to_say_that_nothing_is_better() -> None:
    spec = spec_of(10, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 4.0), (1, 14.0), (1, 13.0), (1, 12.0))
    broken = (trials[0], *(t.evolve(state=TrialState.FAILED, attempt=3, levels=(), capacity=None) for t in trials[1:]))
    wasted = Spent(1, 0.0, 0.0, wasted_starts=9)
    assert next_step(spec, broken, wasted, search_over=None).action is Action.GIVE_UP
    assert next_step(spec, trials, wasted, search_over=None).action is not Action.GIVE_UP


@pytest.mark.parametrize(("starts", "may_be_wasted"), [(4, 6), (8, 8)])
def test_a_world_that_wasted_more_starts_than_the_budget_ends_the_search(starts: int, may_be_wasted: int) -> None:
    spec = spec_of(10, budget={"engine_starts": starts})
    lost = "engine starts were lost"
    assert lost not in (exhausted(spec, (), Spent(0, 0.0, 0.0, wasted_starts=may_be_wasted)) or "")
    assert lost in (exhausted(spec, (), Spent(0, 0.0, 0.0, wasted_starts=may_be_wasted + 1)) or "")


@pytest.mark.parametrize(
    ("limit", "says"), [({"gpu_hours": 1}, "budget of 1 GPU-hours"), ({"wall_clock_s": 3600}, "budget of 3600 s")]
)
def test_a_search_ends_before_a_limit_that_its_next_trial_and_its_proof_would_break(
    limit: dict[str, float], says: str
) -> None:
    spec = spec_of(10, budget={"engine_starts": 30, **limit})
    trials = study_of(spec, (1, 4.0), (1, 14.0), (1, 13.0), (1, 12.0))

    def used_s(seconds: float) -> Spent:
        return Spent(4, seconds, 0.0) if "gpu_hours" in limit else Spent(4, 0.0, seconds)

    assert exhausted(spec, trials, used_s(0.1 * 3600)) is None
    assert exhausted(spec, trials, used_s(0.85 * 3600)) == says  # not used up yet


@QUICK
@given(st.integers(4, 40), st.integers(0, 3))
def test_a_plan_never_starts_more_than_the_budget(starts: int, searched: int) -> None:
    spec = spec_of(10, budget={"engine_starts": starts})
    trials = study_of(spec, (1, 4.0), *[(1, 10.0)] * searched)
    plan = plan_of(spec, trials)
    assert plan.engine_starts <= starts
    assert [stage.name for stage in plan.stages] == ["baseline", "search", "confirmation", "fleet check"]
    assert plan.expected_s > 0


def test_a_plan_expects_a_fleets_check_to_last_as_long_as_its_levels_do() -> None:
    """At a low rate a check waits for its requests: three levels of 60 s were promised, each lasts for minutes."""
    spec = spec_of(3, budget={"engine_starts": 12})
    level_s = pace_of(spec, TrialKind.CONFIRM_FLEET, 3.0, residence_s=None).duration_s
    (check,) = [stage for stage in plan_of(spec, study_of(spec, (1, 4.0))).stages if stage.name == "fleet check"]
    assert level_s > 2 * spec.tuning.levels.max_s
    assert check.expected_s >= 3 * level_s / spec.engine.time_lapse


def test_starts_that_could_prove_nothing_more_are_said_to_be_saved() -> None:
    spec = spec_of(2, budget={"engine_starts": 12})
    proved = checked(spec, study_of(spec, (4, 8.8), (2, 3.2), rounds=1), 1)
    step = step_after(spec, proved, over="budget of 12 engine starts")
    assert step.action is Action.FINISH
    assert f"{12 - used(proved).engine_starts} of 12 engine starts saved" in step.reason
    exact = spec_of(2, budget={"engine_starts": used(proved).engine_starts})
    assert "saved" not in step_after(exact, proved).reason


def test_starts_for_the_check_are_those_that_the_leader_takes_when_it_was_lucky() -> None:
    spec = spec_of(10, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 2.0), (1, 13.0))  # one replica by what it measured, two by a little less
    leader = standings(spec, trials)[0]
    few, many = may_need(spec, leader.measured)
    assert (few, many) == (1, 2)
    assert kept_replicas(spec, leader, room=9) == many
    assert kept_replicas(spec, leader, room=few) == few
    assert kept_replicas(spec, leader, room=0) == 0


def test_a_second_candidate_is_not_confirmed_with_the_starts_that_the_first_one_s_check_takes() -> None:
    spec = spec_of(10, budget={"engine_starts": 6})
    trials = study_of(spec, (1, 2.0), (1, 14.0), (1, 13.9))
    again = a_trial(spec, 3, TrialKind.CONFIRM_WINNER, trials[1].config, 8.0)
    step = step_after(spec, (*trials, again))
    assert step.action is Action.CHECK_FLEET
    assert step.candidate is not None
    assert step.candidate.measured.config == trials[1].config


def test_a_plan_without_a_check_names_the_budget_that_holds_it() -> None:
    spec = spec_of(30, budget={"engine_starts": 6})
    trials = study_of(spec, (1, 4.0), (1, 13.0))
    few, many = may_need(spec, standings(spec, trials)[0].measured)
    assert few >= 3
    note = plan_of(spec, trials).note
    assert note is not None
    assert f"{4 + many} engine starts or more hold it" in note


def test_a_baseline_that_surely_cannot_be_had_is_not_measured_again() -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 12})
    trials = study_of(spec, (1, 1.0), (1, 24.0))
    first = step_after(spec, trials)
    assert first.action is Action.CONFIRM_WINNER
    assert "the baseline is not measured again" in first.reason
    note = plan_of(spec, trials).note
    assert note is not None
    assert "these GPUs surely do not hold its fleet" in note
    again = (*trials, a_trial(spec, len(trials), TrialKind.CONFIRM_WINNER, trials[1].config, 24.0))
    assert step_after(spec, again).action is Action.CHECK_FLEET
    assert "4 are allowed and it was not measured again" in answer(spec, again).summary
    running = again[-1].evolve(state=TrialState.RUNNING, worker="other")
    step = next_step(spec, (*trials, running), used(again), search_over="over", others=["other"])
    assert step.action is Action.WAIT


def test_a_baseline_that_may_be_had_is_measured_again() -> None:
    spec = spec_of(40, gpus=8, budget={"engine_starts": 12})
    trials = study_of(spec, (1, 5.0), (1, 24.0))
    again = (*trials, a_trial(spec, len(trials), TrialKind.CONFIRM_WINNER, trials[1].config, 24.0))
    assert step_after(spec, again).action is Action.CONFIRM_BASELINE


def test_the_starts_of_a_baseline_that_is_not_measured_again_are_the_search_s() -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 10})
    searched = [
        next(stage.engine_starts for stage in plan_of(spec, study_of(spec, (1, rps), (1, 24.0))).stages[1:2])
        for rps in (1.0, 11.0)
    ]
    assert searched[0] > searched[1]


def test_the_search_goes_on_rather_than_a_second_round_of_what_hardly_wins() -> None:
    spec = spec_of(6, gpus=4, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 2.9), (2, 5.0), (1, 2.9))
    round_ = [
        a_trial(spec, 3, TrialKind.CONFIRM_WINNER, trials[2].config, 2.9),
        a_trial(spec, 4, TrialKind.CONFIRM_BASELINE, trials[0].config, 2.9),
    ]
    after = (*trials, *round_)
    assert step_after(spec, after, over=None).action is Action.SEARCH
    assert step_after(spec, after).action is not Action.SEARCH


def test_a_second_candidate_is_tried_before_all_starts_left_are_kept_for_a_check() -> None:
    spec = spec_of(30, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 5.0), (1, 13.0))
    few, many = may_need(spec, standings(spec, trials)[0].measured)
    assert few <= 3 < many
    assert step_after(spec, trials, over=None).action is Action.SEARCH
