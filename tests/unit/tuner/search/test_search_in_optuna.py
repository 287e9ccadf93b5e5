"""Our sampler and our search in an ordinary Optuna study that other Optuna tools write into as well."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.studies.tuning_options import Strategy
from tests.unit.studies.study_world import service_spec
from tests.unit.tuner.search.test_search import BEST, POINTS, SPACE, among, cost, opened
from tuner.answer.objective import log_cost, objective_name, smooth_cost, told_log_cost
from tuner.search.candidates import Tried
from tuner.search.sampler import TwinSampler, distributions, params_of, point_of, tried
from tuner.search.search import Finished, Proposal, Search

Params = dict[str, Any]


def params(seqs: int, tokens: int, quantization: str | None = "fp8") -> Params:
    point = {"max-num-seqs": seqs, "quantization": quantization, "max-num-batched-tokens": tokens}
    return params_of(SPACE, point)


def objective(trial: optuna.Trial) -> float:
    suggested = {name: trial._suggest(name, distribution) for name, distribution in distributions(SPACE).items()}
    return math.exp(cost(point_of(SPACE, suggested)))


def added(study: optuna.Study, chosen: Params, value: float, **rest: Any) -> None:
    trial = optuna.trial.create_trial(params=chosen, distributions=distributions(SPACE), value=value, **rest)
    study.add_trial(trial)


def known(study: optuna.Study) -> list[Tried]:
    return tried(among(), study.get_trials())


def test_trials_of_a_plain_sampler_are_read_by_their_values() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=3)
    found = known(study)
    assert [each.log_cost for each in found] == pytest.approx([cost(each.point) for each in found])


def test_our_sampler_learns_from_the_trials_of_a_plain_one() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=6)
    study.sampler = TwinSampler(among(np.array([cost(point) + 0.4 for point in POINTS])), worthwhile=0.01)
    study.optimize(objective, n_trials=2)
    assert min(math.log(trial.value) for trial in study.trials if trial.value) == pytest.approx(BEST)


def test_a_trial_that_broke_a_constraint_could_not_run_whatever_its_value() -> None:
    study = optuna.create_study()
    added(study, params(64, 1024), 0.1, system_attrs={"constraints": [0.5]})
    assert known(study) == [Tried(point_of(SPACE, params(64, 1024)))]


def test_a_trial_that_tells_nothing_of_this_space_is_ignored() -> None:
    study = optuna.create_study()
    added(study, params(64, 1024), -3.0)  # no GPUs per request
    study.add_trial(
        optuna.trial.create_trial(
            params={"x": 1.0}, distributions={"x": optuna.distributions.FloatDistribution(0, 2)}, value=1.0
        )
    )
    assert known(study) == []


def test_what_was_enqueued_by_hand_is_what_is_started_next(tmp_path: Path) -> None:
    search = opened(tmp_path)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    study.enqueue_trial(params(512, 512))
    first, second = search.ask(), search.ask()
    assert isinstance(first, Proposal)
    assert isinstance(second, Proposal)
    assert first.point == point_of(SPACE, params(512, 512))
    assert "by hand" in first.reason
    assert second.point != first.point


def test_what_was_enqueued_but_breaks_a_known_rule_is_closed_and_not_started(tmp_path: Path) -> None:
    few = among()
    few = few._replace(row_of={key: row for key, row in few.row_of.items() if POINTS[row]["max-num-seqs"] != 512})
    search = opened(tmp_path, Strategy.RANDOM, few)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    study.enqueue_trial(params(512, 512))
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    assert proposal.point["max-num-seqs"] != 512
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL", "RUNNING"]
    assert "known rule" in study.get_trials()[0].user_attrs["reason"]


def test_what_a_start_and_its_levels_took_is_kept_in_the_study(tmp_path: Path) -> None:
    search = opened(tmp_path)
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    search.tell(proposal.number, Finished(log_cost=-1.0, cost=0.4, start_s=81.0, levels_s=40.0, host="h"))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert known(study) == [Tried(proposal.point, -1.0, start_s=81.0, levels_s=40.0, host="h")]


@pytest.mark.parametrize(
    "changes",
    [{"kind": "lowest_cost", "spare_replicas": 1}, {"kind": "lowest_cost"}, {"kind": "highest_goodput"}],
)
def test_a_value_of_the_study_is_read_back_as_the_capacity_it_was_made_of(changes: Params) -> None:
    spec = service_spec()
    tuning = spec.tuning.evolve(objective=spec.tuning.objective.model_validate(changes))
    spec = spec.evolve(tuning=tuning)
    value = smooth_cost(spec, 7.5, 2)
    assert told_log_cost(spec, value, 2) == pytest.approx(log_cost(spec, 7.5, 2))
    assert told_log_cost(spec, -abs(value) if value > 0 else abs(value), 2) is None


def stored(folder: Path) -> optuna.Study:
    """The study as any other tool opens it."""
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/optuna.db")


def asked(search: Search) -> int:
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    return proposal.number


def in_memory() -> Search:
    return Search("s", among(), storage_url=None, strategy=Strategy.RANDOM, seed=1, worthwhile=0.01)


MEASURED = Finished(log_cost=-1.0, cost=7.0)


def test_the_objective_is_named_with_its_unit_and_what_it_is_for(tmp_path: Path) -> None:
    opened(tmp_path).describe("USD per hour at the target", {"target": "40 requests/s"})
    study = stored(tmp_path)
    assert study.metric_names == ["USD per hour at the target"]
    assert study.user_attrs["target"] == "40 requests/s"
    assert study.direction is optuna.study.StudyDirection.MINIMIZE


def test_a_trial_whose_experiment_broke_says_so_to_other_tools(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.fail(asked(search), for_good=True, reason="load test invalid 3 times")
    lost = asked(search)
    opened(tmp_path).reconcile({lost: None}, running=(), reasons={lost: "the engine hung"})
    for trial, why in zip(stored(tmp_path).trials, ("load test invalid 3 times", "the engine hung"), strict=True):
        assert trial.state is optuna.trial.TrialState.FAIL
        assert trial.user_attrs["outcome"] == "not measured: its experiment broke"
        assert trial.user_attrs["reason"] == why


@pytest.mark.parametrize(
    ("changes", "unit"),
    [
        ({}, "USD per hour at the target (replicas not rounded; below one, more room is worth little)"),
        ({"tuning": {"objective": {"kind": "highest_goodput"}}}, "minus requests per second of all GPUs"),
        ({"gpus": {"type": "H200", "count": 4, "price_usd_per_gpu_hour": 0}}, "GPUs at the target"),
    ],
)
def test_the_objective_s_name_says_what_its_number_is(changes: Params, unit: str) -> None:
    assert objective_name(service_spec(**changes)).startswith(unit)


@settings(deadline=None, max_examples=30)
@given(
    results=st.lists(
        st.one_of(
            st.builds(lambda cost: Finished(log_cost=-1.0, cost=cost), st.floats(-50, 50)),
            st.builds(lambda cost: Finished(at_least=-1.0, cost=cost), st.floats(-50, 50)),
            st.builds(lambda beyond: Finished(beyond=beyond), st.floats(-50, 50)),
        ),
        max_size=8,
    ),
    baseline=st.floats(-50, 50),
)
def test_only_what_was_measured_is_ever_shown_as_better_than_the_baseline(
    results: list[Finished], baseline: float
) -> None:
    search = in_memory()
    search.tell(search.add(POINTS[0]), Finished(log_cost=-1.0, cost=baseline))
    for result in results:
        search.tell(asked(search), result)
    shown = [trial.value for trial in search._study.trials]
    for value, result in zip(shown[1:], results, strict=True):
        assert value is not None
        assert value >= baseline or result.log_cost is not None
    assert search._study.best_value == min([baseline, *(r.cost for r in results if r.log_cost and r.cost is not None)])


def test_a_baseline_that_could_not_run_looks_worse_than_anything_that_did(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.tell(search.add(POINTS[0]), Finished(beyond=500.0))
    search.tell(asked(search), MEASURED)
    study = stored(tmp_path)
    assert study.trials[0].value == 500
    assert study.best_trial.number == 1


def test_what_broke_a_limit_says_so_where_people_look(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.tell(search.add(POINTS[0]), MEASURED)
    search.tell(asked(search), Finished(ran_out_of_memory=True, reason="no memory", beyond=100.0))
    search.tell(asked(search), Finished(at_least=-1.0, cost=3.0, reason="misses P95 TTFT"))
    measured, broken, dropped = stored(tmp_path).trials
    assert (measured.user_attrs["kind"], measured.user_attrs["outcome"]) == ("baseline", "measured")
    assert broken.user_attrs["constraint runs_within_limits"] == "broken"
    assert (broken.user_attrs["outcome"], broken.user_attrs["reason"]) == ("could not run", "no memory")
    assert broken.constraints == {"runs_within_limits": 1.0}
    assert "not held" in dropped.user_attrs["outcome"]
    assert dropped.value == measured.value
