"""What holds of every answer: it exists, is no dearer, its words are its numbers, and more knowledge helps it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import TrialKind, TrialState
from tests.unit.tuner.answer.made_studies import (
    QUICK,
    Capacities,
    answer,
    checked,
    spec_of,
    step_after,
    study_of,
)
from tests.unit.tuner.answer.measured_trials import a_level, a_trial
from tuner.answer.policy import Action
from tuner.answer.standing import standings


def test_a_small_replica_that_suffices_beats_a_large_one_with_more_room_per_gpu() -> None:
    spec = spec_of(2)
    trials = study_of(spec, (4, 8.8), (2, 3.2), rounds=1)
    step = step_after(spec, trials)
    assert step.action is Action.CHECK_FLEET
    found = answer(spec, checked(spec, trials, 1))
    assert (found.answer, found.fleet.gpus) == (Answer.IMPROVEMENT, 2)
    assert found.evidence.cost_ratio == pytest.approx(0.5)


def test_a_large_replica_is_no_improvement_where_a_small_one_serves() -> None:
    found = answer(spec_of(3), study_of(spec_of(3), (1, 4.5), (2, 10.0), rounds=1))
    assert found.answer is Answer.NO_IMPROVEMENT
    assert found.fleet.gpus == 1


def test_spare_replicas_are_paid_for() -> None:
    spec = spec_of(8, objective={"kind": "lowest_cost", "spare_replicas": 1})
    found = answer(spec, study_of(spec, (1, 5.4), (4, 24.0), rounds=1))
    assert found.answer is Answer.NO_IMPROVEMENT  # 3 × 1 GPUs against 2 × 4


def test_the_same_fleet_with_more_room_is_an_answer_of_its_own() -> None:
    spec = spec_of(3)
    found = answer(spec, study_of(spec, (1, 5.0), (1, 12.0), rounds=2))
    assert found.answer is Answer.SAME_FLEET_MORE_CAPACITY
    assert found.chances is not None
    assert found.chances.capacity_ratio_low > 1


def test_a_target_beyond_all_gpus_says_how_many_would_do() -> None:
    spec = spec_of(100, gpus=2)
    found = answer(spec, study_of(spec, (1, 4.0), (1, 10.0), rounds=1))
    assert found.answer is Answer.OUT_OF_REACH
    assert not found.improvement
    assert found.fleet.gpus <= 2
    assert found.chances is not None
    assert found.chances.gpus_needed is not None
    assert 11 <= found.chances.gpus_needed <= 14
    assert found.chances.capacity_ratio_low < 2.5 < found.chances.capacity_ratio_high  # of what carries most here
    assert f"{found.chances.gpus_needed} GPUs" in found.summary


def test_what_missed_together_is_not_recommended_in_the_guise_of_another_as_good() -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 12})
    trials = study_of(spec, (1, 3.0), (1, 13.0), (1, 13.2), (1, 20.0), rounds=1)
    misses = a_level(spec, 40, passed=False, replicas=4)
    missed = a_trial(
        spec,
        len(trials),
        TrialKind.CONFIRM_FLEET,
        trials[1].config,
        None,
        state=TrialState.INFEASIBLE,
        replicas=4,
        levels=(misses,),
    )
    fleets = {each.measured.trials[0].number: each for each in standings(spec, (*trials, missed))}
    assert not fleets[1].exists
    assert not fleets[2].exists  # as good in the search: four of it would miss as well
    assert fleets[3].exists  # far better in the search: another matter
    alone = study_of(spec, (1, 3.0), (1, 13.0), rounds=1)
    found = answer(spec, (*alone, missed.evolve(number=len(alone))))
    assert found.answer is Answer.OUT_OF_REACH
    assert found.chances is not None
    assert found.chances.gpus_needed is not None
    assert found.chances.gpus_needed > 4


@QUICK
@given(Capacities, st.lists(st.tuples(st.sampled_from([1, 2, 4]), Capacities), min_size=1, max_size=4), st.data())
def test_no_answer_exceeds_the_gpus_or_the_ceiling_and_no_win_is_dearer(
    baseline: float, candidates: list[tuple[int, float]], data: st.DataObject
) -> None:
    gpus, usd = data.draw(st.integers(4, 8)), data.draw(st.sampled_from([None, 12.0, 18.0]))
    spec = spec_of(data.draw(st.floats(1, 60)), gpus=gpus, usd=usd)
    rounds = data.draw(st.integers(0, 2))
    found = answer(spec, study_of(spec, (1, baseline), *candidates, rounds=rounds))
    assert found.fleet.gpus <= gpus
    assert usd is None or found.fleet.usd_per_hour <= usd
    before = found.evidence.confirmed_baseline
    if found.answer in (Answer.IMPROVEMENT, Answer.IMPROVEMENT_UNCHECKED):
        assert before is not None
        assert found.fleet.usd_per_hour < before.fleet.usd_per_hour or before.fleet.gpus > gpus


@QUICK
@given(Capacities, st.lists(st.tuples(st.sampled_from([1, 2]), Capacities), min_size=1, max_size=3), st.integers(0, 2))
def test_the_words_of_an_answer_are_its_numbers(
    baseline: float, candidates: list[tuple[int, float]], rounds: int
) -> None:
    spec = spec_of(10)
    found = answer(spec, study_of(spec, (1, baseline), *candidates, rounds=rounds))
    fleet = re.search(r"(\d+) × (\d+) GPUs, ([\d.]+) USD per hour", found.summary)
    assert fleet is not None
    assert int(fleet[1]) == found.fleet.replicas
    assert int(fleet[1]) * int(fleet[2]) == found.fleet.gpus
    assert float(fleet[3]) == pytest.approx(found.fleet.usd_per_hour, abs=0.01)
    instead = re.search(r"instead of ([\d.]+), (\d+)% less", found.summary)
    if instead is not None:
        assert found.evidence.confirmed_baseline is not None
        assert float(instead[1]) == pytest.approx(found.evidence.confirmed_baseline.fleet.usd_per_hour, abs=0.01)
        assert int(instead[2]) == pytest.approx(100 * (1 - found.evidence.cost_ratio), abs=1)
    assert found.chances is not None
    sure = re.search(
        r"it holds [\d.]+ requests/s with probability (\d+)%( \(one replica fewer with (\d+)%\))?", found.summary
    )
    if sure is not None:
        assert int(sure[1]) == pytest.approx(100 * found.chances.holds, abs=1.5)
        assert (sure[3] is None) == (found.chances.fewer_hold is None) == (found.fleet.replicas == 1)
        assert found.chances.fewer_hold is None or found.chances.fewer_hold <= found.chances.holds
    assert found.evidence.cost_ratio_low <= found.evidence.cost_ratio <= found.evidence.cost_ratio_high


@QUICK
@given(st.floats(6, 14), st.floats(1.0, 1.5), st.integers(1, 2))
def test_a_better_measurement_never_makes_the_answer_worse(capacity: float, factor: float, rounds: int) -> None:
    spec = spec_of(10)
    order = [Answer.NO_IMPROVEMENT, Answer.SAME_FLEET_MORE_CAPACITY, Answer.IMPROVEMENT_UNCHECKED, Answer.IMPROVEMENT]
    worse = answer(spec, study_of(spec, (1, 4.0), (1, capacity), rounds=rounds))
    better = answer(spec, study_of(spec, (1, 4.0), (1, capacity * factor), rounds=rounds))
    assert worse.answer is not None
    assert better.answer is not None
    assert order.index(better.answer) >= order.index(worse.answer)
    assert better.fleet.usd_per_hour <= worse.fleet.usd_per_hour
