"""Whose experiment is tried again, after how long, and what is said meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from tests.unit.tuner.answer.made_studies import QUICK, config, spec_of, study_of
from tests.unit.tuner.answer.measured_trials import NOW, a_trial
from tuner.answer.attempts import (
    MAX_ATTEMPTS,
    PATIENCE_S,
    PATIENT_ATTEMPTS,
    anew,
    due_at,
    is_unfinished,
    may_try_again,
    pause_s,
    waits,
)
from tuner.answer.plan import plan_of
from tuner.answer.policy import Action, Spent, Step, exhausted, next_step

LOST = "engine did not start (node lost): the node was lost"
PLACES = [StartFailure.NODE_LOST, StartFailure.TIMEOUT, StartFailure.UNSCHEDULABLE, StartFailure.IMAGE_PULL]
FREE = Spent(0, 0.0, 0.0)


def broken(kind: TrialKind = TrialKind.BASELINE, attempt: int = 1, **fields: Any) -> Trial:
    given = {"start_failure": StartFailure.NODE_LOST, "reason": LOST} | fields
    return a_trial(spec_of(), 0, kind, config(1), None, state=TrialState.FAILED, attempt=attempt, **given)


def step(trial: Trial, *, after_s: float, used: Spent = FREE, **budget: float) -> Step:
    spec = spec_of(budget={"engine_starts": 8, **budget})
    return next_step(spec, (trial,), used, search_over=None, now=NOW + timedelta(seconds=after_s))


def test_a_baseline_whose_node_was_lost_three_times_is_waited_for_and_tried_again() -> None:
    lost = broken(attempt=3)
    assert step(lost, after_s=59) == Step(
        Action.WAIT, f"the baseline could not be measured 3 times: {LOST}; next attempt in 60 s"
    )
    assert step(lost, after_s=60).action is Action.RETRY


@pytest.mark.parametrize("failure", PLACES)
@pytest.mark.parametrize("kind", [kind for kind in TrialKind if kind is not TrialKind.SEARCH])
def test_what_an_answer_hangs_on_has_more_attempts_where_the_place_was_gone(
    kind: TrialKind, failure: StartFailure
) -> None:
    attempts = [n for n in range(1, 20) if may_try_again(broken(kind, n, start_failure=failure))]
    assert attempts == list(range(1, PATIENT_ATTEMPTS))


def test_a_candidate_of_the_search_waits_too_but_has_others_beside_it() -> None:
    assert pause_s(broken(TrialKind.SEARCH, 2)) == 30
    assert not may_try_again(broken(TrialKind.SEARCH, MAX_ATTEMPTS))


@pytest.mark.parametrize("failure", [None, *(each for each in StartFailure if each not in PLACES)])
def test_what_the_engine_or_the_load_did_is_tried_at_once_and_three_times(failure: StartFailure | None) -> None:
    assert pause_s(broken(attempt=2, start_failure=failure)) == 0
    assert may_try_again(broken(attempt=2, start_failure=failure))
    assert not may_try_again(broken(attempt=MAX_ATTEMPTS, start_failure=failure))


def test_patience_ends_by_the_time_that_attempts_took() -> None:
    begun: dict[str, Any] = {"first_started_at": NOW - timedelta(seconds=PATIENCE_S)}
    assert may_try_again(broken(attempt=2, **begun))
    assert not may_try_again(broken(attempt=3, **begun))
    given_up = step(broken(attempt=3, **begun), after_s=1e6)
    assert given_up.action is Action.GIVE_UP
    assert given_up.reason == f"the baseline could not be measured in 3 attempts: {LOST}"


@pytest.mark.parametrize(
    ("budget", "used"), [({"wall_clock_s": 900}, Spent(0, 0.0, 901.0)), ({"gpu_hours": 1}, Spent(0, 3601.0, 0.0))]
)
def test_patience_ends_with_the_time_of_the_budget(budget: dict[str, float], used: Spent) -> None:
    assert step(broken(attempt=3), after_s=0, used=used, **budget).action is Action.GIVE_UP
    assert step(broken(attempt=2), after_s=0, used=used, **budget).action is Action.WAIT


@QUICK
@given(st.integers(1, PATIENT_ATTEMPTS), st.sampled_from(TrialKind))
def test_a_pause_never_shrinks_and_all_of_them_together_are_bounded(attempt: int, kind: TrialKind) -> None:
    assert pause_s(broken(kind, attempt)) <= pause_s(broken(kind, attempt + 1))
    assert sum(pause_s(broken(kind, n)) for n in range(1, PATIENT_ATTEMPTS)) <= PATIENCE_S
    assert due_at(broken(kind, attempt)) == NOW + timedelta(seconds=pause_s(broken(kind, attempt)))


def test_a_study_gone_on_with_has_all_its_attempts_again() -> None:
    later = NOW + timedelta(hours=3)
    lost = broken(attempt=PATIENT_ATTEMPTS)
    again = anew(lost, now=later)
    assert not is_unfinished(lost)
    assert is_unfinished(again)
    assert step(again, after_s=0).action is Action.RETRY
    next_lost = again.evolve(attempt=again.attempt + 1, finished_at=later)
    assert waits(next_lost) == f"the baseline could not be measured once: {LOST}; next attempt in 15 s"


def test_the_plan_says_what_is_waited_for() -> None:
    note = plan_of(spec_of(), (broken(attempt=3),)).note
    assert note is not None
    assert note.startswith(waits(broken(attempt=3)))


def test_starts_that_a_lost_place_took_from_the_baseline_end_no_search() -> None:
    spec = spec_of(budget={"engine_starts": 8})
    trials = study_of(spec, (1, 4.0), (1, 14.0))
    wasted = Spent(2, 0.0, 0.0, wasted_starts=9)
    assert exhausted(spec, trials, wasted) is not None
    assert exhausted(spec, (trials[0].evolve(attempt=10), trials[1]), wasted) is None
