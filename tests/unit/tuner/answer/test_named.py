"""How many replicas are named and checked: the cautious number, unless caution alone would decide the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.capacity import FleetSize
from tests.unit.tuner.answer.made_studies import QUICK, Capacities, checked, spec_of, step_after, study_of
from tuner.answer.evidence import measured
from tuner.answer.fleets import cheaper, exists, holds, sized
from tuner.answer.named import named
from tuner.answer.policy import Action
from tuner.answer.standing import baseline_of, decide, standings

BASELINE = (2, 30.0)  # one replica of two GPUs


def test_what_likely_does_with_one_replica_is_no_loss_because_two_would_surely_do() -> None:
    """One replica of one GPU carries 10 requests/s and the headroom by the best estimate; the 5 % quantile wants two,
    which cost what the baseline does."""
    spec = spec_of(10, gpus=4)
    trials = study_of(spec, BASELINE, (1, 13.0))
    found = decide(spec, trials)
    assert sized(spec, standings(spec, trials)[0].measured).replicas == 2
    assert found.winner is not None
    assert found.winner.fleet.gpus == 1
    assert (found.answer, found.winner.holds >= spec.tuning.confidence) == (Answer.IMPROVEMENT_UNCHECKED, False)


def test_a_fleet_that_is_cheaper_anyway_is_named_with_as_many_as_surely_hold() -> None:
    spec = spec_of(10, gpus=8)
    trials = study_of(spec, (4, 30.0), (1, 13.0))
    (standing,) = standings(spec, trials)
    assert standing.fleet == sized(spec, standing.measured)
    assert standing.fleet.replicas == 2


def test_before_a_study_ends_without_a_gain_the_cheaper_fleet_that_may_do_is_checked() -> None:
    """A few per cent of headroom are missing by the best estimate: two replicas are needed, and are no gain."""
    spec = spec_of(10, gpus=4, budget={"engine_starts": 20})
    trials = study_of(spec, BASELINE, (1, 12.0), rounds=3)
    step = step_after(spec, trials)
    assert step.candidate is not None
    assert (step.action, step.candidate.fleet.replicas) == (Action.CHECK_FLEET, 1)
    assert decide(spec, trials).answer is Answer.NO_IMPROVEMENT
    assert decide(spec, checked(spec, trials, 1)).answer is not Answer.NO_IMPROVEMENT


def test_others_are_looked_for_before_a_fleet_that_hardly_wins_is_checked() -> None:
    spec = spec_of(10, gpus=4, budget={"engine_starts": 20})
    assert step_after(spec, study_of(spec, BASELINE, (1, 12.0), rounds=3), over=None).action is Action.SEARCH


def test_a_check_goes_before_a_round_that_would_leave_no_start_for_it() -> None:
    spec = spec_of(10, gpus=4, budget={"engine_starts": 6})
    step = step_after(spec, study_of(spec, BASELINE, (1, 12.0), (1, 11.0), rounds=1))
    assert step.action is Action.CHECK_FLEET


@QUICK
@given(Capacities, Capacities, st.sampled_from([1, 2]), st.integers(0, 2))
def test_what_is_named_exists_is_never_more_than_surely_holds_and_rather_gains(
    rps: float, baseline_rps: float, gpus: int, rounds: int
) -> None:
    spec = spec_of(10)
    trials = study_of(spec, (2, baseline_rps), (gpus, rps), rounds=rounds)
    found = measured(trials)
    candidate, baseline = found[trials[1].config.content_hash()], baseline_of(found)
    assert baseline is not None
    fleet, surely = named(spec, candidate, baseline), sized(spec, candidate)

    def gains(of: FleetSize) -> float:
        return holds(spec, candidate.belief, of.replicas) * cheaper(spec, of, candidate, baseline)

    assert fleet.replicas <= surely.replicas
    assert exists(spec, fleet) or not exists(spec, surely)
    assert gains(fleet) >= gains(surely) or fleet == surely


@pytest.mark.parametrize("better", [1.0, 1.1, 1.3, 2.0])
def test_a_better_candidate_is_never_named_with_a_dearer_fleet(better: float) -> None:
    spec = spec_of(10, gpus=8)
    for rps in (4.0, 5.0, 6.0, 7.0, 9.0, 11.0, 12.5):
        worse, improved = (
            standings(spec, study_of(spec, (2, 12.0), (1, each), rounds=1))[0] for each in (rps, rps * better)
        )
        assert improved.fleet.gpus <= worse.fleet.gpus
