"""What comes near a target that nothing reached is measured, and what held together is never passed over for more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.services.studies.trial_plan import ladder_of
from tests.unit.tuner.answer.made_studies import QUICK, answer, checked, config, spec_of, step_after, study_of
from tests.unit.tuner.answer.measured_trials import a_trial, used
from tuner.answer.evidence import measured
from tuner.answer.fleets import holds
from tuner.answer.policy import Action
from tuner.answer.standing import baseline_of, standings
from tuner.ladder.ladder import Ladder, Rung


def ladder_after(spec: ServiceSpec, baseline_rps: float) -> Ladder:
    """Return the ladder of a candidate on one GPU after the baseline alone."""
    trials = study_of(spec, (1, baseline_rps))
    candidate = a_trial(
        spec, 1, TrialKind.SEARCH, config(1, **{"max-num-seqs": 64}), None, state=TrialState.RUNNING
    ).evolve(predicted={"capacity_rps": 12.0})
    return ladder_of(spec, candidate, trials)


def test_a_candidate_just_short_of_what_all_gpus_need_is_measured_while_nothing_reaches_the_target() -> None:
    """Four GPUs need 11.76 each with the headroom; 11 would hold the target, and was dropped unmeasured."""
    spec = spec_of(40, gpus=4)
    ladder = ladder_after(spec, 3.0)
    assert ladder.start_rps == pytest.approx(40 / 0.85 / 4)
    missed = ladder.climbed(Rung(rate_rps=ladder.start_rps, passed=False, certain=True, pressure=1.5))
    assert not missed.is_dropped
    below = missed.next_rate()
    assert below is not None
    assert 40 / 4 <= below < ladder.start_rps
    hopeless = missed.climbed(Rung(rate_rps=5.8, passed=False, certain=True, pressure=3.0))
    assert hopeless.is_dropped


def test_a_candidate_that_is_no_cheaper_is_dropped_at_once_where_the_baseline_reaches_the_target() -> None:
    spec = spec_of(40, gpus=4)
    ladder = ladder_after(spec, 13.0)
    assert ladder.climbed(Rung(rate_rps=ladder.start_rps, passed=False, certain=True, pressure=1.5)).is_dropped


def test_starts_kept_for_a_proof_go_on_with_the_search_while_nothing_reaches_the_target() -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 6})
    trials = study_of(spec, (1, 2.0), (1, 4.0), (1, 5.0), (1, 5.0))
    step = step_after(spec, trials, over=None)
    assert (step.action, step.reason) == (
        Action.SEARCH,
        "nothing measured so far reaches the target, engine starts are left",
    )
    assert step_after(spec, trials).action is Action.FINISH  # nothing is proposed any more
    all_used = study_of(spec, (1, 2.0), *[(1, 5.0)] * 5)
    assert step_after(spec, all_used, over=None).action is Action.FINISH


@QUICK
@given(st.lists(st.floats(0.5, 6.0), min_size=1, max_size=6), st.integers(5, 9))
def test_a_search_without_a_fleet_in_reach_ends_with_its_budget(capacities: list[float], starts: int) -> None:
    spec = spec_of(60, gpus=4, budget={"engine_starts": starts})
    trials: tuple[Trial, ...] = study_of(spec, (1, 2.0))
    for number in range(1, starts):
        assert used(trials).engine_starts < starts
        step = step_after(spec, trials, over=None)
        assert step.action is Action.SEARCH
        tried = config(1, **{"max-num-seqs": 64 + number})
        capacity = capacities[number % len(capacities)]
        trials = (*trials, a_trial(spec, number, TrialKind.SEARCH, tried, capacity))
    assert step_after(spec, trials, over=None).action is Action.FINISH


def test_what_held_together_is_kept_rather_than_more_gpus_of_the_baseline() -> None:
    """One GPU of the baseline may do too, but not surely: two of them were recommended beside one that had held."""
    spec = spec_of(10)
    found = answer(spec, checked(spec, study_of(spec, (1, 11.9), (1, 12.2), rounds=1), 1))
    assert (found.answer, found.fleet.gpus) == (Answer.SAME_FLEET_MORE_CAPACITY, 1)
    assert found.evidence.cost_ratio == 1
    assert "rather the same fleet than a cheaper one" in found.summary
    needs = re.search(r"the baseline surely needs (\d+) GPUs", found.summary)
    assert needs is not None
    assert int(needs[1]) == 2
    assert found.next_step is not None


@QUICK
@given(st.floats(6, 18), st.floats(10, 24), st.sampled_from([1, 2]), st.integers(1, 2))
def test_no_answer_costs_more_than_what_held_together_and_surely_holds(
    baseline_rps: float, capacity: float, replicas: int, rounds: int
) -> None:
    spec = spec_of(10)
    trials = checked(spec, study_of(spec, (1, baseline_rps), (1, capacity), rounds=rounds), replicas)
    found, held = answer(spec, trials), standings(spec, trials)[0]
    before = baseline_of(measured(trials))
    assert before is not None
    if held.is_held and held.holds > max(spec.tuning.confidence, holds(spec, before.belief, held.fleet.replicas)):
        assert found.fleet.gpus <= held.fleet.gpus
