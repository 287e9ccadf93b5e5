"""What answers and studies that end without one say: nothing that was not measured, nothing that its numbers deny."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Recommendation, TrialKind, TrialState
from controlplane.services.studies.conclude import conclusion
from controlplane.services.studies.extend import parse_budget
from tests.unit.tuner.answer.made_studies import (
    OVER,
    QUICK,
    Capacities,
    answer,
    checked,
    config,
    spec_of,
    step_after,
    study_of,
)
from tests.unit.tuner.answer.measured_trials import NOW, a_level, a_study, a_trial
from tuner.answer.policy import Action, Spent, next_step

NEGATIVE = re.compile(r"(?<!\d)-\d")


def test_a_study_whose_time_held_the_baseline_alone_has_not_shown_that_nothing_is_better() -> None:
    spec = spec_of(3, budget={"engine_starts": 8, "wall_clock_s": 20})
    step = next_step(spec, study_of(spec, (1, 4.0)), Spent(1, 0.0, 25.0), search_over=None)
    assert step.action is Action.GIVE_UP
    assert step.reason.startswith("budget of 20 s: ")
    assert "saved" not in step.reason


def test_a_first_candidate_is_tried_with_the_time_that_its_proof_would_not_fit_into() -> None:
    spec = spec_of(3, budget={"engine_starts": 8, "wall_clock_s": 60})
    assert next_step(spec, study_of(spec, (1, 4.0)), Spent(1, 0.0, 16.0), search_over=None).action is Action.SEARCH
    hours = spec_of(3, budget={"engine_starts": 8, "gpu_hours": 1})
    assert next_step(hours, study_of(hours, (1, 4.0)), Spent(1, 1000.0, 0.0), search_over=None).action is Action.SEARCH


def test_starts_that_the_time_was_too_short_for_are_not_called_saved() -> None:
    spec = spec_of(3, budget={"engine_starts": 8, "wall_clock_s": 60})
    trials = study_of(spec, (1, 4.0), (2, 5.0))
    late = next_step(spec, trials, Spent(2, 0.0, 58.0), search_over=None)
    assert (late.action, late.reason) == (Action.FINISH, "budget of 60 s")
    early = next_step(spec, trials, Spent(2, 0.0, 10.0), search_over=OVER)
    assert early.reason.startswith(f"{OVER}; 6 of 8 engine starts saved")


def test_a_summary_says_why_engine_starts_were_left_once() -> None:
    spec = spec_of(2, budget={"engine_starts": 12})
    trials = checked(spec, study_of(spec, (4, 8.8), (2, 6.0), rounds=1), 1)
    reason = step_after(spec, trials).reason
    for proved in (trials, trials[:2]):
        found = conclusion(a_study(spec), proved, stopped_because=reason, now=NOW)
        assert isinstance(found, Recommendation)
        assert found.summary.count("of 12 engine starts saved: they could prove nothing more") == 1
    assert "saved" not in answer(spec, trials).summary


def test_time_that_is_short_is_not_called_engine_starts() -> None:
    spec = spec_of(10, budget={"engine_starts": 12, "wall_clock_s": 100})
    step = next_step(spec, study_of(spec, (1, 4.0), (1, 14.0)), Spent(2, 0.0, 99.0), search_over=None)
    assert step.unchecked == "the budget's time does not hold 2 more engine starts"


@pytest.mark.parametrize("usd", [None, 12.0])
def test_a_study_all_of_whose_finds_were_refuted_says_by_what(usd: float | None) -> None:
    spec = spec_of(3, usd=usd)
    tried = config(1, **{"max-num-seqs": 65})
    dead = {"start_failure": StartFailure.CRASHED, "reason": "in each of 3 attempts: the engine died"}
    trials = (
        a_trial(spec, 0, TrialKind.BASELINE, config(2), None, start_failure=StartFailure.OUT_OF_MEMORY),
        a_trial(spec, 1, TrialKind.SEARCH, tried, 12.0),
        a_trial(spec, 2, TrialKind.CONFIRM_WINNER, tried, None, **dead),
    )
    found = conclusion(a_study(spec), trials, stopped_because=OVER, now=NOW)
    assert found == ("nothing that met the limits can be recommended: trial 2: in each of 3 attempts: the engine died")


@QUICK
@given(Capacities, st.tuples(st.sampled_from([1, 2, 4]), Capacities), st.integers(0, 2), st.booleans(), st.booleans())
def test_no_gain_is_a_negative_one_and_what_has_no_price_costs_no_dollars(
    baseline: float, candidate: tuple[int, float], rounds: int, goodput: bool, priced: bool
) -> None:
    kind = "highest_goodput" if goodput else "lowest_cost"
    spec = spec_of(10, gpus=4, objective={"kind": kind})
    spec = spec if priced else spec.evolve(gpus=spec.gpus.evolve(price_usd_per_gpu_hour=0))
    found = answer(spec, study_of(spec, (1, baseline), candidate, rounds=rounds))
    assert not NEGATIVE.search(found.summary)
    assert ("USD" in found.summary) == priced


def test_less_capacity_on_the_same_gpus_is_said_as_less() -> None:
    """A baseline of two-GPU replicas cannot be had with its spare; single GPUs carry less each, and suffice."""
    spec = spec_of(10, gpus=3, objective={"kind": "lowest_cost", "spare_replicas": 1, "headroom": 0.1})
    trials = study_of(spec, (2, 30.0), (1, 13.0), rounds=1)
    found = answer(spec, checked(spec, trials, 2))
    assert found.chances is not None
    assert found.chances.capacity_ratio < 1
    assert not NEGATIVE.search(found.summary)


def test_without_a_baseline_no_gain_over_it_is_stated() -> None:
    spec = spec_of(3, gpus=2, objective={"kind": "highest_goodput"})
    trials = (
        a_trial(spec, 0, TrialKind.BASELINE, config(2), None, start_failure=StartFailure.OUT_OF_MEMORY),
        a_trial(spec, 1, TrialKind.SEARCH, config(1, **{"max-num-seqs": 65}), 12.0),
    )
    found = answer(spec, trials)
    assert "the baseline meets the limits at no rate measured" in found.summary
    assert "more capacity" not in found.summary


def missed_by_the_budget(unchecked: str | None) -> Recommendation:
    spec = spec_of(2, budget={"engine_starts": 8})
    trials = study_of(spec, (4, 8.8), (2, 2.42), rounds=1)
    found = conclusion(a_study(spec), trials, stopped_because="budget of 8 engine starts", unchecked=unchecked, now=NOW)
    assert isinstance(found, Recommendation)
    return found


def test_a_saving_that_the_budget_left_open_is_said_with_its_odds_and_how_to_go_on() -> None:
    found = missed_by_the_budget("the budget does not hold 2 more engine starts")
    assert found.answer is Answer.NO_IMPROVEMENT
    assert found.chances is not None
    assert 0.1 <= found.chances.missed_chance < 0.6
    assert found.summary.startswith("no improvement shown: ")
    assert f"with probability {found.chances.missed_chance:.0%}" in found.summary
    assert "as cheap as anything" not in found.summary
    assert found.next_step is not None
    assert missed_by_the_budget(None).next_step is None  # nothing was wanted that more starts would hold


def test_what_missed_together_is_no_saving_that_was_missed() -> None:
    spec = spec_of(10)
    trials = study_of(spec, (4, 25.0), (2, 20.0), rounds=1)
    misses = tuple(a_level(spec, 10, passed=False, replicas=1) for _ in range(2))
    kind, tried, missed = TrialKind.CONFIRM_FLEET, trials[1].config, TrialState.INFEASIBLE
    check = a_trial(spec, len(trials), kind, tried, None, state=missed, levels=misses)
    found = answer(spec, (*trials, check))
    assert found.answer is Answer.NO_IMPROVEMENT
    assert found.chances is not None
    assert found.chances.missed_saving == 0


def test_for_highest_goodput_nothing_is_said_of_cheaper_fleets_or_a_target() -> None:
    spec = spec_of(10, gpus=2, objective={"kind": "highest_goodput"})
    kept = answer(spec, study_of(spec, (1, 10.0), (1, 5.0)))
    assert kept.answer is Answer.NO_IMPROVEMENT
    assert "carries as much as anything measured" in kept.summary
    assert "that one of those measured carries more is less likely than 5 %" in kept.summary
    assert kept.next_step is None
    close = answer(spec, study_of(spec, (1, 10.0), (1, 9.4)))
    assert close.answer is Answer.NO_IMPROVEMENT
    assert close.chances is not None
    assert 0.05 < close.chances.missed_chance < 0.5
    assert f"carries more with probability {close.chances.missed_chance:.0%}" in close.summary
    assert "cheaper" not in kept.summary + close.summary


@pytest.mark.parametrize("limit", ["wall_clock_s", "gpu_hours"])
def test_the_command_that_goes_on_brings_the_time_that_it_takes(limit: str) -> None:
    had = 400.0 if limit == "wall_clock_s" else 0.2
    spec = spec_of(10, budget={"engine_starts": 8, limit: had})
    study = a_study(spec).evolve(gpu_seconds=700.0)
    trials = study_of(spec, (1, 4.0), (1, 14.0))
    found = conclusion(study, trials, stopped_because="x", unchecked="x", now=NOW.replace(minute=6, second=40))
    assert isinstance(found, Recommendation)
    assert found.next_step is not None
    budget = parse_budget(found.next_step.split("--budget ")[1])
    assert budget["engine_starts"] > 8
    assert budget[limit] > 2 * had
