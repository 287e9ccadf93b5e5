"""When an unproved gain is called likely: by one standard for both sides, and never where nothing is gained."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from tests.unit.tuner.answer.made_studies import (
    QUICK,
    Capacities,
    answer,
    checked,
    decided_of_both,
    spec_of,
    step_after,
    study_of,
)
from tests.unit.tuner.answer.measured_trials import a_level, a_trial
from tuner.answer.evidence import measured
from tuner.answer.fleets import gains
from tuner.answer.named import LIKELY_GAIN
from tuner.answer.policy import Action
from tuner.answer.standing import baseline_of, decide, standings

ENOUGH = 10 / 0.85  # requests/s of one replica that carries 10 with the headroom


@pytest.mark.parametrize("rps", [0.97 * ENOUGH, ENOUGH, 1.02 * ENOUGH])
def test_a_configuration_as_good_as_the_baseline_is_no_likely_gain_though_one_replica_held_the_target(
    rps: float,
) -> None:
    """It held without the headroom, which the baseline has to have: both lack it as likely as not."""
    spec = spec_of(10, gpus=2)
    trials = checked(spec, study_of(spec, (1, rps), (1, rps), rounds=2), 1)
    (standing,) = standings(spec, trials)
    assert standing.fleet.gpus == 1
    assert standing.holds >= spec.tuning.confidence
    assert standing.gains < LIKELY_GAIN
    assert answer(spec, trials).answer is Answer.NO_IMPROVEMENT


def test_where_nothing_is_gained_the_baseline_may_do_with_as_few_gpus_as_held() -> None:
    spec = spec_of(10, gpus=2)
    trials = study_of(spec, (1, 0.97 * ENOUGH), (1, 0.97 * ENOUGH), rounds=3)
    assert answer(spec, trials).fleet.gpus == 2  # by the best estimate the headroom is not there
    found = answer(spec, checked(spec, trials, 1))
    assert (found.answer, found.fleet.gpus) == (Answer.NO_IMPROVEMENT, 1)
    assert found.chances is not None
    assert found.chances.holds >= spec.tuning.confidence
    assert found.evidence.confirmed_baseline is not None
    assert found.evidence.confirmed_baseline.fleet == found.fleet


def test_a_fleet_of_all_gpus_is_no_saving_over_a_baseline_that_may_do_with_them() -> None:
    """Two GPUs: the baseline has the headroom with them as likely as not, and by the 5 % quantile wants a third."""
    spec = spec_of(20, gpus=2)
    trials = study_of(spec, (1, 0.99 * ENOUGH), (1, 1.3 * ENOUGH), rounds=1)
    trials = tuple(t.evolve(levels=_weak(t)) if t.config == trials[0].config else t for t in trials)
    found = answer(spec, trials)
    assert (found.answer, found.fleet.gpus) == (Answer.SAME_FLEET_MORE_CAPACITY, 2)
    assert found.chances is not None
    assert 0.4 < found.chances.cheaper < spec.tuning.confidence
    said = re.search(r"surely needs (\d+) GPUs, 2 are allowed; .* has probability (\d+)%;", found.summary)
    assert said is not None
    assert int(said[1]) > 2
    assert int(said[2]) == pytest.approx(100 * found.chances.cheaper, abs=1)
    assert found.next_step is not None
    assert found.evidence.cost_ratio == 1


def _weak(trial: Trial) -> tuple[object, ...]:
    """Return a trial's levels as if they had lasted for a fifth of their requests."""
    spec = spec_of(20, gpus=2)
    return tuple(
        a_level(spec, level.rate_rps, passed=level.passed, completed=max(20, level.report.completed // 5))
        for level in trial.levels
    )


def test_what_missed_of_another_speaks_for_a_candidate_until_it_was_measured_again_itself() -> None:
    spec = spec_of(10, gpus=4, budget={"engine_starts": 8})
    trials = study_of(spec, (2, 30.0), (1, 13.0), (1, 13.0), rounds=1)
    misses = tuple(a_level(spec, 10, passed=False, replicas=1) for _ in range(2))
    config, number = trials[1].config, len(trials)
    state = TrialState.INFEASIBLE
    missed = (*trials, a_trial(spec, number, TrialKind.CONFIRM_FLEET, config, None, state=state, levels=misses))
    other = trials[2].config
    step = step_after(spec, missed)
    assert step.candidate is not None
    assert (step.action, step.candidate.measured.config) == (Action.CONFIRM_WINNER, other)
    again = (*missed, a_trial(spec, number + 1, TrialKind.CONFIRM_WINNER, other, 13.0))
    assert decide(spec, again).answer is Answer.NO_IMPROVEMENT  # not by its word alone
    step = step_after(spec, again)
    assert step.candidate is not None
    assert (step.action, step.candidate.fleet.replicas) == (Action.CHECK_FLEET, 1)
    assert step.candidate.measured.config == other


@QUICK
@given(Capacities, Capacities, st.sampled_from([1, 2]), st.integers(0, 2), st.floats(1.0, 1.5))
def test_a_gain_is_no_likelier_than_its_parts_and_a_better_candidate_rather_gains(
    rps: float, baseline_rps: float, gpus: int, rounds: int, better: float
) -> None:
    spec = spec_of(10)
    (worse,) = standings(spec, study_of(spec, (2, baseline_rps), (gpus, rps), rounds=rounds))
    assert 0 <= worse.gains <= min(worse.holds, worse.cheaper) + 0.01  # of 200 draws
    trials = study_of(spec, (2, baseline_rps), (gpus, rps * better), rounds=rounds)
    found = measured(trials)
    baseline = baseline_of(found)
    assert baseline is not None
    assert gains(spec, worse.fleet, found[trials[1].config.content_hash()], baseline) >= worse.gains - 0.01


@QUICK
@given(st.floats(5, 30), st.floats(1, 30), st.floats(1.0, 1.5), st.integers(1, 4), st.integers(0, 2))
def test_a_better_candidate_never_makes_the_answer_worse_where_gpus_are_few(
    rps: float, baseline_rps: float, better: float, gpus: int, rounds: int
) -> None:
    order = [Answer.OUT_OF_REACH, Answer.NO_IMPROVEMENT, Answer.SAME_FLEET_MORE_CAPACITY]
    order += [Answer.IMPROVEMENT_UNCHECKED, Answer.IMPROVEMENT]
    spec = spec_of(20, gpus=gpus)
    worse, improved = decided_of_both(spec, baseline_rps, rps, better=better, rounds=rounds)
    assert order.index(improved.answer) >= order.index(worse.answer)


@QUICK
@given(st.floats(5, 30), st.floats(1, 30), st.integers(1, 4), st.integers(0, 2))
def test_an_unproved_gain_is_at_least_as_likely_as_not_and_says_its_probability(
    rps: float, baseline_rps: float, gpus: int, rounds: int
) -> None:
    spec = spec_of(20, gpus=gpus)
    found = answer(spec, study_of(spec, (1, baseline_rps), (1, rps), rounds=rounds))
    if found.answer is not Answer.IMPROVEMENT_UNCHECKED:
        return
    assert found.chances is not None
    assert found.chances.gains is not None
    assert found.chances.gains >= LIKELY_GAIN
    said = re.search(r"it is a gain with probability (\d+)%", found.summary)
    assert (said is not None) == (found.chances.gains < spec.tuning.confidence)
    assert said is None or int(said[1]) == pytest.approx(100 * found.chances.gains, abs=1)
    if found.fleet.gpus >= gpus:
        assert found.chances.cheaper >= spec.tuning.confidence


@QUICK
@given(st.floats(5, 30), st.floats(1, 30), st.integers(1, 3), st.integers(1, 2))
def test_a_study_read_back_from_its_store_at_any_point_is_answered_the_same(
    rps: float, baseline_rps: float, gpus: int, rounds: int
) -> None:
    spec = spec_of(20, gpus=gpus)
    trials = study_of(spec, (1, baseline_rps), (1, rps), rounds=rounds)
    for point in range(2, len(trials) + 1):
        kept = tuple(Trial.model_validate_json(trial.model_dump_json()) for trial in trials[:point])
        assert answer(spec, kept) == answer(spec, trials[:point])
        assert step_after(spec, kept).action is step_after(spec, trials[:point]).action
