"""What is stated of one replica holds for one alone, also where what decided is what each of several carried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Level, Trial, TrialKind, TrialState
from tests.unit.tuner.answer.made_studies import QUICK, answer, checked, config, spec_of, study_of
from tests.unit.tuner.answer.measured_trials import a_level, a_trial
from tests.unit.tuner.answer.test_checked_at_once import bursty, own_arrivals
from tuner.answer.evidence import LONG_RUN, LONG_RUN_SD, THESE_ARRIVALS, Measured, measured
from tuner.answer.stated import capacity

ALONE_RPS, TOGETHER_RPS = 8.19, 8.9  # of one replica, and of each of three, by half an hour of the simulated engine


def of_the_first(trials: tuple[Trial, ...]) -> Measured:
    return measured(trials)[trials[1].config.content_hash()]


def a_bursty_study() -> tuple[ServiceSpec, tuple[Trial, ...]]:
    """Return `14b-conv-4xh100-bursts`, seed 8500 at 8 starts: one section of the search, then three replicas that held
    and two that missed.
    """
    spec = own_arrivals(spec_of(20, gpus=4))
    winner = config(1, **{"max-num-seqs": 64})
    minutes = (
        a_level(spec, 7.84, passed=True, misses=[0], completed=93),
        a_level(spec, 9.92, passed=False, misses=[33], completed=342),
        a_level(spec, 9.45, passed=True, misses=[13], completed=573),
    )
    told = {"capacity_rps": 21.8, THESE_ARRIVALS: 13.0, LONG_RUN: 10.73, LONG_RUN_SD: 0.0}
    check = (
        a_level(spec, 20, passed=True, misses=[22], completed=36109, replicas=3),
        a_level(spec, 23.53, passed=False, misses=[2231], completed=7941, replicas=2),
    )
    return spec, (
        a_trial(spec, 0, TrialKind.BASELINE, config(1), 6.0),
        a_trial(spec, 1, TrialKind.SEARCH, winner, 9.7, levels=minutes, predicted=told),
        a_check(spec, winner, *check),
    )


def a_check(spec: ServiceSpec, of: EngineConfig, *levels: Level) -> Trial:
    held = {"state": TrialState.FEASIBLE, "replicas": 3, "held_replicas": 3}
    return a_trial(spec, 2, TrialKind.CONFIRM_FLEET, of, None, levels=levels, **held)


def test_what_three_replicas_carried_together_bounds_one_alone_by_less() -> None:
    spec, trials = a_bursty_study()
    decides = of_the_first(trials)
    stated = capacity(spec, trials, decides)
    assert decides.belief.quantile(0.025) > ALONE_RPS  # what decides is of the fleet, and too much for one
    assert stated.low < ALONE_RPS < TOGETHER_RPS < stated.high


def test_the_answer_states_it_and_is_else_what_decided() -> None:
    spec, trials = a_bursty_study()
    found, decides = answer(spec, trials), of_the_first(trials)
    assert found.evidence.confirmed_winner is not None
    assert found.chances is not None
    stated = found.evidence.confirmed_winner.capacity
    assert stated.low_rps < ALONE_RPS
    assert stated.rps == decides.belief.median_rps
    assert stated.high_rps == pytest.approx(decides.belief.quantile(0.975))
    assert found.chances.holds == decides.belief.at_least(20 / 3)


@pytest.mark.parametrize(
    ("spec", "replicas"), [(bursty(10, gpus=4), 1), (spec_of(20, gpus=4), 2), (bursty(20, gpus=4), None)]
)
def test_where_no_fleet_was_loaded_or_no_trace_bursts_the_interval_is_that_of_what_decided(
    spec: ServiceSpec, replicas: int | None
) -> None:
    trials = study_of(spec, (1, 4.0), (1, 11.0))
    trials = trials if replicas is None else checked(spec, trials, replicas)
    belief = of_the_first(trials).belief
    assert capacity(spec, trials, of_the_first(trials)) == (
        belief.median_rps,
        belief.quantile(0.025),
        belief.quantile(0.975),
    )


@QUICK
@given(st.floats(4, 20), st.integers(1, 4))
def test_the_interval_stated_never_is_narrower_than_what_decided(rps: float, replicas: int) -> None:
    spec = bursty(20, gpus=4)
    trials = checked(spec, study_of(spec, (1, 4.0), (1, rps)), replicas)
    belief, stated = of_the_first(trials).belief, capacity(spec, trials, of_the_first(trials))
    assert stated.low <= belief.quantile(0.025) < stated.value == belief.median_rps
    assert stated.value < belief.quantile(0.975) <= stated.high
