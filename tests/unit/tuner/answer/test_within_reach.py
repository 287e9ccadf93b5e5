"""A target is called out of reach only where that is earned: the likeliest fleet here was checked, or hardly holds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Level, Trial, TrialKind, TrialState
from tests.unit.tuner.answer.made_studies import QUICK, answer, checked, decided_of_both, spec_of, step_after, study_of
from tests.unit.tuner.answer.measured_trials import a_level, a_trial, used
from tuner.answer.evidence import measured
from tuner.answer.fleet_check import Move, next_move
from tuner.answer.fleets import exists, holds, largest_here, sized
from tuner.answer.named import LIKELY, LIKELY_GAIN
from tuner.answer.policy import Action
from tuner.answer.standing import POSSIBLE, decide, standings

NEAR = 10.9  # requests/s of one replica: rather enough for 10, but neither surely nor with the headroom


def test_caution_alone_puts_no_target_out_of_reach() -> None:
    """One GPU likely holds the target; the two that surely would cannot be had."""
    spec = spec_of(10, gpus=1)
    trials = study_of(spec, (1, 4.0), (1, NEAR), rounds=1)
    found = measured(trials)[trials[1].config.content_hash()]
    assert not exists(spec, sized(spec, found))
    assert LIKELY_GAIN <= holds(spec, found.belief, 1) < spec.tuning.confidence
    step = step_after(spec, trials)
    assert step.candidate is not None
    assert (step.action, step.candidate.fleet.gpus) == (Action.CHECK_FLEET, 1)
    unchecked = answer(spec, trials)
    assert (unchecked.answer, unchecked.fleet.gpus) == (Answer.IMPROVEMENT_UNCHECKED, 1)
    assert "it holds with probability" in unchecked.summary
    held = answer(spec, checked(spec, trials, 1))
    assert held.answer in (Answer.IMPROVEMENT, Answer.IMPROVEMENT_UNCHECKED)
    assert "missed" not in held.summary


def test_the_baseline_is_kept_where_it_likely_does_with_all_gpus_and_nothing_else_does() -> None:
    spec = spec_of(10, gpus=1)
    found = answer(spec, study_of(spec, (1, 12.0), (1, 6.0)))
    assert (found.answer, found.fleet.gpus) == (Answer.NO_IMPROVEMENT, 1)
    assert found.chances is not None
    assert LIKELY_GAIN <= found.chances.holds < spec.tuning.confidence
    assert found.next_step is not None


def test_of_fleets_that_caution_forbids_the_one_that_most_likely_holds_is_tried_first() -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 20})
    for less, more in (((1, 7.0), (1, 9.0)), ((2, 14.0), (1, 9.0)), ((1, 7.0), (2, 18.0))):
        ranked = standings(spec, study_of(spec, (1, 3.0), less, more))
        assert [each.measured.config.gpus_per_replica for each in ranked] == [more[0], less[0]]
        assert [each.reach for each in ranked] == sorted((each.reach for each in ranked), reverse=True)


def test_a_fleet_that_only_a_check_can_tell_of_is_checked_with_the_last_starts() -> None:
    """Two starts are left: a further round would leave none for the check of two replicas."""
    spec = spec_of(40, gpus=4, budget={"engine_starts": 5})
    trials = study_of(spec, (1, 2.0), (2, 2 * NEAR), (2, 2 * NEAR))
    step = step_after(spec, trials)
    assert step.candidate is not None
    assert (step.action, step.candidate.fleet.replicas) == (Action.CHECK_FLEET, 2)
    assert used(trials).engine_starts + step.candidate.fleet.replicas <= spec.tuning.budget.engine_starts


def test_nothing_as_large_is_checked_beside_a_fleet_that_surely_holds_and_held() -> None:
    spec = spec_of(10, gpus=1, budget={"engine_starts": 20})
    trials = study_of(spec, (1, 9.9), (1, 13.5), (1, 13.0), rounds=2)
    assert step_after(spec, trials).action is Action.CHECK_FLEET
    held = checked(spec, trials, 1)
    assert standings(spec, held)[0].holds >= spec.tuning.confidence
    assert step_after(spec, held).action is Action.FINISH


def _checking(spec: ServiceSpec, trials: tuple[Trial, ...], *levels: Level) -> Trial:
    fields = {"replicas": 1, "levels": levels, "state": TrialState.RUNNING}
    return a_trial(spec, len(trials), TrialKind.CONFIRM_FLEET, trials[1].config, None, **fields)


def test_a_check_goes_on_where_no_replica_can_join_and_the_odds_are_even() -> None:
    spec = spec_of(10, gpus=1)
    trials = study_of(spec, (1, 4.0), (1, 12.5), rounds=1)
    close = a_level(spec, 10, passed=False, misses=[32], completed=600, early=False, replicas=1)
    clear = a_level(spec, 10, passed=False, misses=[200], completed=600, early=False, replicas=1)
    passed = a_level(spec, 10, passed=True, misses=[28], completed=600, replicas=1)
    assert next_move(spec, trials, _checking(spec, trials, close, passed, close)) is Move.AGAIN
    assert next_move(spec, trials, _checking(spec, trials, close, passed, close), in_time=False) is Move.GROW
    assert next_move(spec, trials, _checking(spec, trials, clear, clear)) is Move.GROW
    six = [passed, close] * 3
    assert next_move(spec, trials, _checking(spec, trials, *six)) is Move.GROW
    roomy = spec_of(10, gpus=4)
    trials = study_of(roomy, (4, 4.0), (1, 12.5), rounds=1)
    assert next_move(roomy, trials, _checking(roomy, trials, close, passed, close)) is Move.GROW


@QUICK
@given(st.floats(3, 30), st.floats(1, 30), st.integers(1, 4), st.sampled_from([1, 2]), st.integers(0, 2))
def test_out_of_reach_is_said_only_of_what_unlikely_holds_and_says_how_likely(
    rps: float, baseline_rps: float, gpus: int, tensor: int, rounds: int
) -> None:
    spec = spec_of(20, gpus=gpus)
    trials = study_of(spec, (1, baseline_rps), (tensor, rps), rounds=rounds)
    found = answer(spec, trials)
    assert found.chances is not None
    if found.answer is not Answer.OUT_OF_REACH:
        assert found.fleet.gpus <= gpus
        return
    for each in measured(trials).values():
        fleet = largest_here(spec, each)
        again = any(trial.kind is TrialKind.CONFIRM_WINNER for trial in each.trials)
        assert fleet is None or holds(spec, each.belief, fleet.replicas) < (LIKELY if again else LIKELY_GAIN)
    said = re.search(r"it holds 20 requests/s with probability (\d+)%", found.summary)
    assert said is not None
    assert int(said[1]) == pytest.approx(max(1, 100 * found.chances.holds), abs=1)
    is_open = found.chances.holds >= POSSIBLE
    doubt = "likely" if found.chances.holds < LIKELY else "perhaps"
    assert (f"{doubt} out of reach here, not proved" in found.summary) == (found.next_step is not None) == is_open
    assert ("the target cannot be met here" in found.summary) != is_open


@QUICK
@given(st.floats(5, 30), st.floats(1, 30), st.floats(1.0, 1.5), st.integers(1, 4))
def test_what_is_likelier_to_hold_is_not_answered_out_of_reach_sooner(
    rps: float, baseline_rps: float, better: float, gpus: int
) -> None:
    spec = spec_of(20, gpus=gpus)
    worse, improved = decided_of_both(spec, baseline_rps, rps, better=better, rounds=1)
    assert improved.answer is not Answer.OUT_OF_REACH or worse.answer is Answer.OUT_OF_REACH
    better_baseline = decide(spec, study_of(spec, (1, baseline_rps * better), (1, rps), rounds=1))
    assert better_baseline.answer is not Answer.OUT_OF_REACH or worse.answer is Answer.OUT_OF_REACH
