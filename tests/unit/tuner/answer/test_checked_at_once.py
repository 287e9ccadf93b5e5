"""Under a trace's own arrivals rounds of minutes tell little: fleets are checked at once where nothing else counts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Level, Trial, TrialKind, TrialState
from tests.unit.studies.study_world import service_spec
from tests.unit.tuner.answer.made_studies import QUICK, answer, checked, spec_of, step_after, study_of
from tests.unit.tuner.answer.measured_trials import a_level, a_trial, used
from tuner.answer.evidence import LONG_RUN_SD, measured
from tuner.answer.fewer import told
from tuner.answer.fleet_check import Move, next_move
from tuner.answer.fleets import holds
from tuner.answer.likelihood import Run, Seen
from tuner.answer.named import LIKELY
from tuner.answer.plan import plan_of
from tuner.answer.policy import Action
from tuner.answer.posterior import Subject, believe
from tuner.answer.reserve import reserved_replicas, reserved_starts
from tuner.answer.standing import POSSIBLE, decide, is_proved, standings

SHORT = 10.2  # requests/s of one replica, of which 10 are asked: it may do, and rather not


def own_arrivals(spec: ServiceSpec) -> ServiceSpec:
    raw = {"kind": "trace", "trace": "azure-llm-2023/code", "arrivals": {"process": "trace"}}
    return spec.evolve(workload=service_spec(workload=raw).workload)


def bursty(target_qps: float = 40, **fields: Any) -> ServiceSpec:
    return own_arrivals(spec_of(target_qps, **fields))


def a_check(spec: ServiceSpec, trials: tuple[Trial, ...], *levels: Level, over: bool = False) -> Trial:
    replicas = levels[0].replicas or 1
    state = TrialState.INFEASIBLE if over else TrialState.RUNNING
    fields = {"replicas": replicas, "levels": levels, "state": state, "reason": "misses a limit" if over else None}
    return a_trial(spec, len(trials), TrialKind.CONFIRM_FLEET, trials[1].config, None, **fields)


def test_what_may_reach_the_target_is_checked_before_any_round() -> None:
    spec = bursty(gpus=4, budget={"engine_starts": 20})
    trials = study_of(spec, (1, 2.0), (2, 2 * SHORT))
    step = step_after(spec, trials)
    assert step.candidate is not None
    assert (step.action, step.candidate.fleet.replicas) == (Action.CHECK_FLEET, 2)
    even = spec_of(40, gpus=4, budget={"engine_starts": 20})
    assert step_after(even, trials).action is Action.CONFIRM_WINNER


def test_of_fleets_that_may_do_the_one_with_the_best_odds_per_engine_is_checked_first() -> None:
    """Four replicas on a GPU each are likelier to hold than two on two each, and take twice the starts."""
    spec = bursty(gpus=4, budget={"engine_starts": 20})
    trials = study_of(spec, (1, 2.0), (1, SHORT), (2, 2 * 0.98 * SHORT))
    four, two = standings(spec, trials)
    assert four.measured.config.gpus_per_replica == 1
    assert two.reach < four.reach < 2 * two.reach
    step = step_after(spec, trials)
    assert step.candidate is not None
    assert (step.candidate.measured.config, step.candidate.fleet.replicas) == (two.measured.config, 2)


def test_no_round_is_kept_for_where_none_is_made_but_a_second_check() -> None:
    spec, even = bursty(gpus=4, budget={"engine_starts": 12}), spec_of(40, gpus=4, budget={"engine_starts": 12})
    trials = study_of(spec, (1, 2.0), (2, 2 * SHORT))
    assert (reserved_starts(spec, trials), reserved_replicas(spec, trials)) == (0, 4)
    assert (reserved_starts(even, trials), reserved_replicas(even, trials)) == (2, 2)
    stages = {stage.name: stage.engine_starts for stage in plan_of(spec, trials).stages}
    assert (stages["confirmation"], stages["fleet check"], sum(stages.values())) == (0, 4, 12)
    small = bursty(gpus=4, budget={"engine_starts": 6})
    assert reserved_replicas(small, trials) == 2


def test_what_held_is_proved_without_a_round_only_where_rounds_tell_nothing() -> None:
    for spec, proved in ((bursty(10, gpus=1), True), (spec_of(10, gpus=1), False)):
        trials = checked(spec, study_of(spec, (1, 4.0), (1, 20.0)), 1)
        (found,) = standings(spec, trials)
        assert (found.is_held, found.rounds, is_proved(spec, found)) == (True, 0, proved)
        assert (answer(spec, trials).answer is Answer.IMPROVEMENT) is proved


def test_a_check_that_held_is_told_of_what_is_not_proved_too() -> None:
    """One GPU of two; it held, and is a gain with less than the declared probability."""
    for spec, again in ((bursty(10, gpus=2), False), (spec_of(10, gpus=2), True)):
        found = answer(spec, checked(spec, study_of(spec, (2, 20.0), (1, 11.5)), 1))
        assert (found.answer, found.fleet.gpus) == (Answer.IMPROVEMENT_UNCHECKED, 1)
        assert "together, behind a gateway, they held 10 requests/s" in found.summary
        assert ("the winner was not measured again" in found.summary) is again


def test_once_one_held_fewer_gpus_of_another_are_checked() -> None:
    """Two replicas on two GPUs each held; four on a GPU each may do with three, and three starts are left."""
    spec = bursty(gpus=4, budget={"engine_starts": 8})
    trials = checked(spec, study_of(spec, (1, 2.0), (2, 21.0), (1, 13.5)), 2)
    assert spec.tuning.budget.engine_starts - used(trials).engine_starts == 3
    step = step_after(spec, trials)
    assert step.candidate is not None
    assert (step.action, step.candidate.fleet.replicas, step.candidate.fleet.gpus) == (Action.CHECK_FLEET, 3, 3)
    assert step.candidate.measured.config.gpus_per_replica == 1


def test_a_last_check_goes_on_until_the_odds_have_halved_and_no_level_that_passed_ends_it() -> None:
    """It was begun at less than even odds: a miss by a hair tells nothing."""
    spec = bursty(10, gpus=1)
    trials = study_of(spec, (1, 1.0), (1, 9.9))
    before = holds(spec, measured(trials)[trials[1].config.content_hash()].belief, 1)
    assert POSSIBLE < before < 0.3
    hair = a_level(spec, 10, passed=False, misses=[31], completed=600, early=False, replicas=1)
    clear = a_level(spec, 10, passed=False, misses=[400], completed=600, early=False, replicas=1)
    passed = a_level(spec, 10, passed=True, misses=[30], completed=600, replicas=1)
    assert next_move(spec, trials, a_check(spec, trials, hair)) is Move.AGAIN
    assert next_move(spec, trials, a_check(spec, trials, passed)) is Move.AGAIN
    assert next_move(spec, trials, a_check(spec, trials, clear, clear)) is Move.GROW
    assert next_move(spec, trials, a_check(spec, trials, hair, hair), in_time=False) is Move.GROW


def test_a_fleet_that_missed_half_of_its_levels_by_a_hair_stays_named_while_it_rather_holds() -> None:
    """One GPU instead of the baseline's two; over all levels fewer missed than are allowed."""
    spec = spec_of(10, gpus=2)
    trials = study_of(spec, (2, 20.0), (1, 11.0), rounds=1)
    hair = a_level(spec, 10, passed=False, misses=[61], completed=1200, early=False, replicas=1)
    passed = a_level(spec, 10, passed=True, misses=[10], completed=1200, replicas=1)
    missed = (*trials, a_check(spec, trials, *([passed, hair] * 3), over=True))
    found = answer(spec, missed)
    assert (found.answer, found.fleet.gpus) == (Answer.IMPROVEMENT_UNCHECKED, 1)
    assert "1 replica missed the target together" in found.summary
    assert step_after(spec, missed).action is Action.FINISH
    clear = a_level(spec, 10, passed=False, misses=[400], completed=1200, early=False, replicas=1)
    assert answer(spec, (*trials, a_check(spec, trials, clear, clear, over=True))).fleet.gpus == 2


def test_a_last_check_holds_by_all_of_its_levels_together_and_says_how_many_missed() -> None:
    spec = bursty(10, gpus=1)
    trials = study_of(spec, (1, 1.0), (1, 11.0))
    hair = a_level(spec, 10, passed=False, misses=[61], completed=1200, early=False, replicas=1)
    passed = a_level(spec, 10, passed=True, misses=[50], completed=1200, replicas=1)
    dropped = a_level(spec, 10, passed=False, misses=[10], completed=1200, early=False, replicas=1, reason="a queue")
    assert next_move(spec, trials, a_check(spec, trials, *([passed, hair] * 3))) is Move.HELD
    burst = a_level(spec, 10, passed=False, misses=[180], completed=1200, early=False, replicas=1)
    assert next_move(spec, trials, a_check(spec, trials, *([passed, burst] * 3))) is Move.GROW
    assert next_move(spec, trials, a_check(spec, trials, *([passed, dropped] * 3))) is Move.GROW
    held = a_check(spec, trials, *([passed, hair] * 3)).evolve(state=TrialState.FEASIBLE, held_replicas=1)
    assert told(held) == "3 of 6 levels missed a limit, all of them together met every one"
    found = answer(spec, (*trials, held))
    assert found.fleet.gpus == 1
    assert "3 of 6 levels missed a limit" in found.summary


def test_a_level_of_a_check_is_one_half_hour_of_those_that_differ() -> None:
    low = Seen(9.5, 3600, 90, 0.05, 3600, passed=True)
    high = Seen(10.5, 3600, 360, 0.05, 3600, passed=False)

    def span(apart: float) -> float:
        found = believe({"it": Subject((Run((low,), apart=apart), Run((high,), apart=apart)), 1)})["it"]
        return found.quantile(0.95) / found.quantile(0.05)

    assert span(0.0) < 1.5 < span(0.3)


def test_how_far_half_hours_lie_apart_is_that_of_the_configurations_own_search() -> None:
    spec = bursty(10, gpus=1)
    calm = checked(spec, study_of(spec, (1, 1.0), (1, 11.0)), 1)
    apart = tuple(each.evolve(predicted={LONG_RUN_SD: 0.3}) if each.number == 1 else each for each in calm)
    beliefs = [measured(trials)[calm[1].config.content_hash()].belief for trials in (calm, apart)]
    assert beliefs[1].quantile(0.05) < beliefs[0].quantile(0.05)
    assert beliefs[0].quantile(0.95) < beliefs[1].quantile(0.95)


@QUICK
@given(st.floats(4, 12), st.floats(0.5, 12), st.integers(1, 4), st.sampled_from([1, 2]), st.integers(5, 20))
def test_every_step_fits_the_budget_and_the_gpus_and_ends(
    rps: float, baseline_rps: float, gpus: int, tensor: int, starts: int
) -> None:
    """Checks at once never start more engines than are left, on no more GPUs than there are; each missed check ends."""
    spec = bursty(10.0 * gpus, gpus=gpus, budget={"engine_starts": starts})
    trials = study_of(spec, (1, baseline_rps), (tensor, rps * tensor), (1, rps))
    while (step := step_after(spec, trials)).action is not Action.FINISH:
        assert len(trials) <= 2 * starts
        trials = (*trials, _missed(spec, trials, step))
        assert used(trials).engine_starts <= starts
    found = decide(spec, trials)
    assert found.winner is None or found.winner.fleet.gpus <= gpus
    if found.answer is Answer.OUT_OF_REACH:
        assert all(each.holds < LIKELY for each in standings(spec, trials) if each.exists and each.check is not None)


def _missed(spec: ServiceSpec, trials: tuple[Trial, ...], step: Any) -> Trial:
    """Return the trial of a step: a round as before, a check that missed by far."""
    if step.action is Action.CONFIRM_BASELINE:
        return a_trial(spec, len(trials), TrialKind.CONFIRM_BASELINE, trials[0].config, None)
    config, fleet = step.candidate.measured.config, step.candidate.fleet
    assert fleet.gpus <= spec.gpus.count
    if step.action is Action.CONFIRM_WINNER:
        return a_trial(spec, len(trials), TrialKind.CONFIRM_WINNER, config, None)
    level = a_level(spec, spec.slos.target_qps, passed=False, replicas=fleet.replicas)
    fields = {"replicas": fleet.replicas, "levels": (level,), "state": TrialState.INFEASIBLE, "reason": "misses"}
    return a_trial(spec, len(trials), TrialKind.CONFIRM_FLEET, config, None, **fields)
