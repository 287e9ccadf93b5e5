"""What holds of every answer: it exists, is no dearer, its words are its numbers, and more knowledge helps it."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain.answer import Answer
from controlplane.domain.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Recommendation, Trial, TrialKind, TrialState
from controlplane.services.studies.conclude import conclusion
from tests.unit.studies.study_world import service_spec
from tests.unit.tuner.answer.measured_trials import NOW, a_level, a_study, a_trial, used
from tuner.answer.evidence import measured
from tuner.answer.fleet_check import kept_replicas
from tuner.answer.fleets import may_need
from tuner.answer.plan import plan_of
from tuner.answer.policy import Action, Spent, Step, next_step
from tuner.answer.posterior import Seen, Subject, believe
from tuner.answer.standing import standings

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Capacities = st.floats(0.5, 40)
OVER = "every candidate was tried"


def spec_of(target_qps: float = 10, *, gpus: int = 8, usd: float | None = None, **tuning: Any) -> ServiceSpec:
    slos: dict[str, Any] = {
        "latency": [{"metric": "ttft_ms", "percentile": 95, "limit_ms": 1000}],
        "target_qps": target_qps,
        "max_usd_per_hour": usd,
    }
    pool = {"type": "H200", "count": gpus, "price_usd_per_gpu_hour": 3}
    engine = {"kind": "emulator", "version": "0.26", "flags": {"max-model-len": 8192, "tensor-parallel-size": 1}}
    return service_spec(slos=slos, gpus=pool, engine=engine, tuning=tuning)


def config(tensor: int, **flags: Any) -> EngineConfig:
    return EngineConfig(flags={"max-model-len": 8192, "tensor-parallel-size": tensor, **flags})


def study_of(
    spec: ServiceSpec, baseline: tuple[int, float], *candidates: tuple[int, float], rounds: int = 0
) -> tuple[Trial, ...]:
    """Return trials: the baseline, candidates of (GPUs, capacity), and rounds of the first candidate."""
    gpus, rps = baseline
    base = config(gpus)
    found = [a_trial(spec, 0, TrialKind.BASELINE, base, rps)]
    for number, (tensor, capacity) in enumerate(candidates, start=1):
        tried = config(tensor, **{"max-num-seqs": 64 + number})
        found.append(a_trial(spec, number, TrialKind.SEARCH, tried, capacity))
    for _ in range(rounds):
        again = found[1].config
        found.append(a_trial(spec, len(found), TrialKind.CONFIRM_WINNER, again, candidates[0][1]))
        found.append(a_trial(spec, len(found), TrialKind.CONFIRM_BASELINE, base, rps))
    return tuple(found)


def checked(spec: ServiceSpec, trials: tuple[Trial, ...], replicas: int) -> tuple[Trial, ...]:
    """Add a fleet check of the first candidate that held."""
    rate = spec.slos.target_qps
    level = a_level(spec, rate, passed=True, replicas=replicas)
    check = a_trial(
        spec,
        len(trials),
        TrialKind.CONFIRM_FLEET,
        trials[1].config,
        None,
        state=TrialState.FEASIBLE,
        replicas=replicas,
        levels=(level,),
    )
    return (*trials, check)


def answer(spec: ServiceSpec, trials: tuple[Trial, ...]) -> Recommendation:
    found = conclusion(a_study(spec), trials, stopped_because=OVER, now=NOW)
    assert isinstance(found, Recommendation)
    return found


def step_after(spec: ServiceSpec, trials: tuple[Trial, ...], *, over: str | None = OVER) -> Step:
    return next_step(spec, trials, used(trials), search_over=over)


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
    assert f"{found.chances.gpus_needed} GPUs" in found.summary


@pytest.mark.parametrize(("candidate_rps", "action"), [(11.3, Action.CONFIRM_WINNER), (4.0, Action.FINISH)])
def test_what_may_fit_is_measured_again_before_the_target_is_called_out_of_reach(
    candidate_rps: float, action: Action
) -> None:
    spec = spec_of(40, gpus=4, budget={"engine_starts": 12})
    trials = study_of(spec, (1, 3.0), (1, candidate_rps))
    assert answer(spec, trials).answer is Answer.OUT_OF_REACH  # by the best estimate, headroom included
    assert step_after(spec, trials).action is action


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


def test_a_runner_up_is_next_when_the_winner_fails_its_confirmation() -> None:
    spec = spec_of(10, budget={"engine_starts": 20})
    trials = study_of(spec, (1, 4.0), (1, 18.0), (1, 17.0))
    first = step_after(spec, trials)
    assert first.action is Action.CONFIRM_WINNER
    assert first.candidate is not None
    winner = first.candidate.measured.config
    failed = a_trial(spec, len(trials), TrialKind.CONFIRM_WINNER, winner, 4.0)
    again = a_trial(spec, len(trials) + 1, TrialKind.CONFIRM_BASELINE, trials[0].config, 4.0)
    second = step_after(spec, (*trials, failed, again))
    assert second.action is Action.CONFIRM_WINNER
    assert second.candidate is not None
    assert second.candidate.measured.config != winner


def test_starts_that_the_infrastructure_wasted_do_not_use_up_the_search() -> None:
    spec = spec_of(10, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 4.0), (1, 14.0))
    retried = tuple(trial.evolve(attempt=3) for trial in trials)
    assert step_after(spec, retried, over=None).action is Action.SEARCH


def test_a_broken_world_is_no_reason_to_say_that_nothing_is_better() -> None:
    spec = spec_of(10, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 4.0), (1, 14.0), (1, 13.0), (1, 12.0))
    broken = (trials[0], *(t.evolve(state=TrialState.FAILED, attempt=3, levels=(), capacity=None) for t in trials[1:]))
    wasted = Spent(1, 0.0, 0.0, wasted_starts=9)
    assert next_step(spec, broken, wasted, search_over=None).action is Action.GIVE_UP
    assert next_step(spec, trials, wasted, search_over=None).action is not Action.GIVE_UP


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


@QUICK
@given(Capacities, st.floats(1.05, 2), st.integers(30, 600), st.booleans())
def test_a_higher_pass_and_a_higher_failure_never_lower_the_belief(
    rate: float, factor: float, requests: int, early: bool
) -> None:
    def median(at: float) -> float:
        low = Seen(at / 1.05, requests, 0, 0.05, requests, passed=True)
        high = Seen(at * 1.05, requests, 0.2 * requests, 0.05, requests, passed=False, whole=not early)
        return believe({"it": Subject(((low, high),), 1)})["it"].median_rps

    assert median(rate * factor) >= median(rate)


@QUICK
@given(Capacities, st.sampled_from([0.01, 0.05, 0.1]), st.integers(100, 400))
def test_the_long_run_is_never_believed_to_sustain_more_than_the_runs_did(
    rate: float, allowed: float, requests: int
) -> None:
    missed = math.ceil(3 * allowed * requests)
    run = (
        Seen(rate / 1.05, requests, 0, allowed, requests, passed=True),
        Seen(rate * 1.05, requests, missed, allowed, requests, passed=False),
    )
    assert believe({"it": Subject((run,) * 4, 1)})["it"].median_rps < rate * 1.05


@QUICK
@given(Capacities, st.integers(20, 200))
def test_more_runs_that_agree_never_widen_the_interval(rate: float, requests: int) -> None:
    run = (
        Seen(rate / 1.05, requests, 0, 0.05, requests, passed=True),
        Seen(rate * 1.05, requests, 0.2 * requests, 0.05, requests, passed=False),
    )
    once, thrice = (believe({"it": Subject((run,) * n, 1)})["it"] for n in (1, 3))
    assert thrice.quantile(0.975) / thrice.quantile(0.025) < once.quantile(0.975) / once.quantile(0.025)


@QUICK
@given(Capacities, st.integers(500, 1500))
def test_levels_of_a_run_that_contradict_each_other_do_not_make_runs_look_different(rate: float, requests: int) -> None:
    whole = (
        Seen(rate * 0.96, requests, 0.03 * requests, 0.05, requests, passed=True),
        Seen(rate, requests, 0.2 * requests, 0.05, requests, passed=False),
    )
    early = Seen(rate, requests / 8, 0, 0.05, requests / 8, passed=True, whole=False)
    plain, torn = (believe({"it": Subject((run,) * 6, 1)})["it"] for run in (whole, (early, *whole)))
    widths = [found.quantile(0.975) / found.quantile(0.025) - 1 for found in (plain, torn)]
    assert widths[1] < 1.2 * widths[0]


def test_a_failure_after_a_few_requests_is_weaker_than_one_of_a_whole_level() -> None:
    rate, passes = 10.0, Seen(10.0, 600, 0, 0.01, 600, passed=True)
    burst = Seen(rate, 42, 8, 0.01, 48, passed=False, whole=False)
    whole = Seen(rate, 600, 60, 0.01, 600, passed=False)
    after = [believe({"it": Subject(((passes,), (level,)), 1)})["it"].at_least(rate) for level in (burst, whole)]
    assert after[0] > after[1]


@QUICK
@given(st.integers(4, 40), st.integers(0, 3))
def test_a_plan_never_starts_more_than_the_budget(starts: int, searched: int) -> None:
    spec = spec_of(10, budget={"engine_starts": starts})
    trials = study_of(spec, (1, 4.0), *[(1, 10.0)] * searched)
    plan = plan_of(spec, trials)
    assert plan.engine_starts <= starts
    assert [stage.name for stage in plan.stages] == ["baseline", "search", "confirmation", "fleet check"]
    assert plan.expected_s > 0


def test_what_is_believed_does_not_depend_on_the_order_of_the_trials() -> None:
    spec = spec_of(10)
    trials = study_of(spec, (1, 4.0), (1, 10.0), (2, 18.0), rounds=2)
    forward, backward = measured(trials), measured(trials[::-1])
    for key, found in forward.items():
        assert backward[key].belief.median_rps == pytest.approx(found.belief.median_rps)


def test_starts_that_could_prove_nothing_more_are_said_to_be_saved() -> None:
    spec = spec_of(2, budget={"engine_starts": 12})
    proved = checked(spec, study_of(spec, (4, 8.8), (2, 3.2), rounds=1), 1)
    step = step_after(spec, proved, over="budget of 12 engine starts")
    assert step.action is Action.FINISH
    assert f"{12 - used(proved).engine_starts} of 12 engine starts saved" in step.reason
    exact = spec_of(2, budget={"engine_starts": used(proved).engine_starts})
    assert "saved" not in step_after(exact, proved).reason


def test_starts_for_the_check_are_those_that_the_leader_takes_when_it_was_lucky() -> None:
    spec = spec_of(10, budget={"engine_starts": 8})
    trials = study_of(spec, (1, 2.0), (1, 13.0))  # one replica by what it measured, two by a little less
    leader = standings(spec, trials)[0]
    few, many = may_need(spec, leader.measured)
    assert (few, many) == (1, 2)
    assert kept_replicas(spec, leader, room=9) == many
    assert kept_replicas(spec, leader, room=few) == few
    assert kept_replicas(spec, leader, room=0) == 0


def test_a_second_candidate_is_not_confirmed_with_the_starts_that_the_first_one_s_check_takes() -> None:
    spec = spec_of(10, budget={"engine_starts": 6})
    trials = study_of(spec, (1, 2.0), (1, 14.0), (1, 13.9))
    again = a_trial(spec, 3, TrialKind.CONFIRM_WINNER, trials[1].config, 8.0)
    step = step_after(spec, (*trials, again))
    assert step.action is Action.CHECK_FLEET
    assert step.candidate is not None
    assert step.candidate.measured.config == trials[1].config


def test_a_plan_without_a_check_names_the_budget_that_holds_it() -> None:
    spec = spec_of(30, budget={"engine_starts": 6})
    trials = study_of(spec, (1, 4.0), (1, 13.0))
    few, many = may_need(spec, standings(spec, trials)[0].measured)
    assert few >= 3
    note = plan_of(spec, trials).note
    assert note is not None
    assert f"{4 + many} engine starts or more hold it" in note
