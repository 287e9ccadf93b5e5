"""Studies that were run, and answered wrongly: their measurements must lead to answers a user can act on."""

from __future__ import annotations

import pytest

from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Recommendation, Trial, TrialKind
from controlplane.services.studies.conclude import conclusion
from tests.unit.tuner.answer.measured_trials import NOW, Recording, a_study, recording, used
from tuner.answer.evidence import measured
from tuner.answer.policy import Action, next_step
from tuner.answer.standing import decide

H200, EMULATED, DEARER = "h200-qwen14b-code", "emulated-qwen32b-12-starts", "dearer-fleet"
CUT = "h200-qwen7b-conv-cut"


def answer_of(found: Recording, trials: tuple[Trial, ...] | None = None) -> Recommendation:
    answered = conclusion(a_study(found.spec), trials or found.trials, stopped_because="budget", now=NOW)
    assert isinstance(answered, Recommendation)
    return answered


def before(found: Recording, kind: TrialKind) -> tuple[Trial, ...]:
    """Return the trials before the first of a kind."""
    first = next(t.number for t in found.trials if t.kind is kind)
    return found.trials[:first]


@pytest.mark.parametrize(("name", "most_usd"), [(H200, 5.6), (EMULATED, 4.8)])
def test_a_winner_at_a_fraction_of_the_cost_is_not_thrown_away_by_one_missed_check(name: str, most_usd: float) -> None:
    found = recording(name)
    assert found.answered_before.startswith("no improvement")
    answered = answer_of(found)
    assert answered.answer is Answer.IMPROVEMENT_UNCHECKED
    assert answered.improvement
    assert answered.fleet.usd_per_hour <= most_usd + 1e-9
    assert answered.fleet.gpus <= found.spec.gpus.count
    assert answered.next_step is not None
    assert "--resume chat-1" in answered.next_step


@pytest.mark.parametrize("name", [H200, EMULATED])
def test_a_missed_check_is_followed_by_one_with_another_replica(name: str) -> None:
    found = recording(name)
    roomy = found.spec.evolve(tuning=found.spec.tuning.evolve(budget=found.spec.tuning.budget.evolve(engine_starts=24)))
    step = next_step(roomy, found.trials, used(found.trials), search_over="nothing is worth a start")
    assert step.action in (Action.CHECK_FLEET, Action.CONFIRM_WINNER)
    assert step.candidate is not None
    assert step.candidate.fleet.gpus <= 2


def test_a_baseline_that_misses_at_its_old_low_end_still_has_a_capacity() -> None:
    found = recording(H200)
    answered = answer_of(found)
    baseline, _ = answered.evidence.sides()
    assert baseline.capacity is not None
    assert baseline.capacity.low_rps > 1
    assert answered.evidence.cost_ratio > 0


def test_a_baseline_that_needs_more_gpus_than_there_are_is_never_recommended() -> None:
    found = recording(H200)
    assert "4 GPUs" not in answer_of(found).fleet.model_dump_json()
    assert "GPUs, 2 are allowed" in answer_of(found).summary


def test_a_dearer_fleet_is_no_improvement_whatever_a_request_costs() -> None:
    found = recording(DEARER)
    answered = answer_of(found)
    assert "instead of 7.00" in found.answered_before
    assert answered.answer is Answer.NO_IMPROVEMENT
    assert answered.fleet.usd_per_hour == 7
    assert answered.chances is not None
    assert answered.chances.cheaper == 0


def test_a_dearer_fleet_is_not_even_confirmed() -> None:
    found = recording(DEARER)
    searched = before(found, TrialKind.CONFIRM_WINNER)
    step = next_step(found.spec, searched, used(searched), search_over="nothing is worth a start")
    assert step.action is Action.FINISH


@pytest.mark.parametrize("name", [H200, EMULATED])
def test_a_winner_that_was_confirmed_is_never_given_up_before_its_check(name: str) -> None:
    found = recording(name)
    confirmed = before(found, TrialKind.CONFIRM_FLEET)
    step = next_step(found.spec, confirmed, used(confirmed), search_over="enough")
    assert step.action in (Action.CHECK_FLEET, Action.CONFIRM_WINNER)


def test_what_certainly_missed_below_the_target_is_not_believed_to_hold_it_by_the_twin_s_word_alone() -> None:
    found = recording(CUT)
    target, missed = found.spec.slos.target_qps, found.trials[1]
    assert [level.passed for level in missed.levels if level.rate_rps < target] == [False, True]
    believed = measured(found.trials)[missed.config.content_hash()].belief
    assert believed.at_least(target) < 0.98
    assert decide(found.spec, found.trials).answer is not Answer.IMPROVEMENT
