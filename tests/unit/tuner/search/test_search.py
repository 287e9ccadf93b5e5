"""The search: it learns, never repeats a configuration, and goes on where a killed one stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.studies.tuning_options import Strategy
from tuner.search.advisor import advise, measurements
from tuner.search.candidates import Candidates, Outlook, Tried, candidates, point_key
from tuner.search.prior import screen
from tuner.search.sampler import distributions, point_of
from tuner.search.search import Finished, Proposal, Search, gp_available
from tuner.search.surrogate import Array, Belief, believe, column_groups
from tuner.space.space import Dimension, Point, Space

SPACE = Space(
    base=EngineConfig(),
    dimensions=(
        Dimension(flag="max-num-seqs", choices=(16, 32, 64, 128, 256, 512)),
        Dimension(flag="quantization", choices=(None, "fp8")),
        Dimension(flag="max-num-batched-tokens", choices=(512, 1024, 2048, 4096, 8192)),
    ),
)
POINTS = list(SPACE.points())
ROWS = {point_key(point): row for row, point in enumerate(POINTS)}


def cost(point: Point) -> float:
    """A bowl with its lowest point at 128 sequences, 2048 tokens, fp8."""
    seqs, tokens = float(point["max-num-seqs"] or 0), float(point["max-num-batched-tokens"] or 0)
    bowl = 0.25 * abs(math.log2(seqs / 128)) + 0.2 * abs(math.log2(tokens / 2048))
    return bowl + (0.0 if point["quantization"] else 0.3) - 2


BEST = min(cost(point) for point in POINTS)


def among(forecast: Array | None = None, *, room_gib: Array | None = None) -> Candidates:
    outlook = None if forecast is None else Outlook(forecast, np.ones(len(POINTS), dtype=np.bool_), lambda _: None)
    return candidates(SPACE, POINTS, outlook=outlook, room_gib=room_gib)


def opened(folder: Path, strategy: Strategy = Strategy.TWIN, chosen: Candidates | None = None) -> Search:
    url = f"sqlite:///{folder}/optuna.db"
    return Search("s", chosen or among(), storage_url=url, strategy=strategy, seed=1, worthwhile=0.01)


def run(search: Search, trials: int) -> list[Point]:
    tried = []
    for _ in range(trials):
        proposal = search.ask()
        if isinstance(proposal, str):
            break
        tried.append(proposal.point)
        search.tell(proposal.number, Finished(log_cost=cost(proposal.point), cost=math.exp(cost(proposal.point))))
    return tried


@pytest.mark.parametrize("strategy", [Strategy.TWIN, Strategy.TPE, Strategy.RANDOM])
def test_no_configuration_is_proposed_twice(tmp_path: Path, strategy: Strategy) -> None:
    few = Space(base=SPACE.base, dimensions=(SPACE.dimensions[0], SPACE.dimensions[1]))
    points = list(few.points())
    search = opened(tmp_path, strategy, candidates(few, points, outlook=None, room_gib=None))
    tried = []
    while isinstance(proposal := search.ask(), Proposal):
        tried.append(proposal.point)
        search.tell(proposal.number, Finished(log_cost=0.1 * len(tried) % 0.7, cost=1.0))
    assert sorted(map(point_key, tried)) == sorted(map(point_key, points))


def test_a_right_forecast_finds_the_best_at_once(tmp_path: Path) -> None:
    forecast = np.array([cost(point) for point in POINTS])
    assert cost(run(opened(tmp_path, chosen=among(forecast)), 1)[0]) == BEST


def test_a_forecast_wrong_by_a_factor_is_as_good(tmp_path: Path) -> None:
    forecast = np.array([cost(point) + 0.5 for point in POINTS])
    assert min(cost(point) for point in run(opened(tmp_path, chosen=among(forecast)), 2)) == BEST


def test_a_forecast_that_says_the_opposite_is_seen_through(tmp_path: Path) -> None:
    forecast = np.array([-cost(point) for point in POINTS])
    assert min(cost(point) for point in run(opened(tmp_path, chosen=among(forecast)), 15)) < BEST + 0.21


def test_without_a_forecast_it_still_learns(tmp_path: Path) -> None:
    assert min(cost(point) for point in run(opened(tmp_path), 15)) < BEST + 0.21


def test_the_search_stops_when_nothing_is_expected_to_be_gained(tmp_path: Path) -> None:
    search = opened(tmp_path, chosen=among(np.array([cost(point) for point in POINTS])))
    assert len(run(search, 59)) < 30
    assert "below the measurement noise" in str(search.ask())


def test_the_search_goes_on_after_a_restart_where_it_was(tmp_path: Path) -> None:
    first = run(opened(tmp_path), 5)
    second = run(opened(tmp_path), 5)
    assert not {point_key(p) for p in first} & {point_key(p) for p in second}


def test_a_result_saved_but_never_told_is_told_at_the_restart(tmp_path: Path) -> None:
    proposal = opened(tmp_path).ask()
    assert isinstance(proposal, Proposal)
    reopened = opened(tmp_path)
    reopened.reconcile({proposal.number: Finished(log_cost=-1.0, cost=0.4)}, running=())
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert [trial.value for trial in study.trials] == [0.4]


@pytest.mark.parametrize("strategy", [Strategy.TWIN, Strategy.TPE, Strategy.RANDOM])
def test_what_failed_every_attempt_is_never_proposed_again(tmp_path: Path, strategy: Strategy) -> None:
    search, seen = opened(tmp_path, strategy), []
    for _ in range(6):
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        seen.append(point_key(proposal.point))
        search.fail(proposal.number, for_good=True)
    reopened = opened(tmp_path, strategy)
    lost = reopened.ask()
    assert isinstance(lost, Proposal)
    reopened.reconcile({lost.number: None}, running=())
    last = reopened.ask()
    assert isinstance(last, Proposal)
    seen += [point_key(lost.point), point_key(last.point)]
    assert len(set(seen)) == len(seen)


def test_an_ask_nobody_started_is_closed_and_may_be_proposed_again(tmp_path: Path) -> None:
    proposal = opened(tmp_path).ask()
    reopened = opened(tmp_path)
    reopened.reconcile({}, running=())
    again = reopened.ask()
    assert isinstance(proposal, Proposal)
    assert isinstance(again, Proposal)
    assert again.point == proposal.point


def test_telling_twice_changes_nothing(tmp_path: Path) -> None:
    search = opened(tmp_path)
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    search.tell(proposal.number, Finished(log_cost=-1.0, cost=0.4))
    search.tell(proposal.number, Finished(log_cost=-2.0, cost=0.1))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert study.trials[0].value == 0.4


def test_what_could_not_run_is_recorded_as_a_violated_constraint(tmp_path: Path) -> None:
    search = opened(tmp_path)
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    search.tell(proposal.number, Finished(ran_out_of_memory=True, reason="out of memory"))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert study.trials[0].constraints == {"runs_within_limits": 1.0}


def test_what_leaves_as_little_memory_as_a_burst_is_not_tried() -> None:
    rooms = np.array([float(row) for row in range(len(POINTS))])
    burst = Tried(POINTS[40], ran_out_of_memory=True)
    advice = advise(among(room_gib=rooms), [burst], worthwhile=0.01)
    assert advice.row is not None
    assert advice.row > 40


def test_a_burst_with_no_less_memory_than_one_that_started_says_nothing_of_memory() -> None:
    same = np.full(len(POINTS), 20.0)
    known = [Tried(POINTS[0], log_cost=cost(POINTS[0])), Tried(POINTS[40], ran_out_of_memory=True)]
    advice = advise(among(room_gib=same), known, worthwhile=0.01)
    assert advice.row not in (None, 0, 40)


def test_a_failed_experiment_is_never_learnt_from(tmp_path: Path) -> None:
    search = opened(tmp_path)
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    search.fail(proposal.number)
    again = search.ask()
    assert isinstance(again, Proposal)
    assert again.point == proposal.point


def test_every_precision_within_reach_is_tried_before_the_search_believes_a_forecast_against_it() -> None:
    # The forecast sees no gain in fp8, and everything measured agreed with it, without fp8.
    forecast = np.array([cost({**point, "quantization": "fp8"}) for point in POINTS])
    without = [row for row, point in enumerate(POINTS) if point["quantization"] is None]
    best = sorted(without, key=lambda row: forecast[row])[:6]
    known = [Tried(POINTS[row], log_cost=float(forecast[row])) for row in best]
    advice = advise(among(forecast), known, worthwhile=0.5)
    assert advice.row is not None
    assert POINTS[advice.row]["quantization"] == "fp8"


def test_a_candidate_dropped_where_the_twin_saw_it_worse_leaves_the_twin_its_word() -> None:
    forecast = np.array([cost(point) for point in POINTS])
    forecast[3] = cost(POINTS[3]) + 3
    known = [Tried(POINTS[row], log_cost=cost(POINTS[row])) for row in (20, 40)]
    dropped = Tried(POINTS[3], at_least=BEST)
    before = believe(among().features, column_groups(SPACE), forecast, measurements(known, ROWS))
    after = believe(among().features, column_groups(SPACE), forecast, measurements([*known, dropped], ROWS))
    assert after.weights[:3].sum() >= before.weights[:3].sum() - 0.01
    assert after.mean[3] > BEST + 1


def test_a_candidate_dropped_where_the_twin_saw_it_best_speaks_against_the_twin() -> None:
    forecast = np.array([cost(point) for point in POINTS])
    forecast[3] = BEST - 2
    known = [Tried(POINTS[row], log_cost=cost(POINTS[row])) for row in (20, 40)]
    dropped = Tried(POINTS[3], at_least=BEST + 1)
    before = believe(among().features, column_groups(SPACE), forecast, measurements(known, ROWS))
    after = believe(among().features, column_groups(SPACE), forecast, measurements([*known, dropped], ROWS))
    assert after.weights[0] < before.weights[0] - 0.1
    assert after.mean[3] > BEST + 0.9


def test_copies_of_the_best_within_the_noise_are_not_worth_a_start() -> None:
    belief = Belief(np.array([[-1.0, -1.0]]), np.array([[0.03, 0.3]]), np.array([1.0]))
    blind, noisy = belief.expected_improvement(-1.0, 1e-9), belief.expected_improvement(-1.0, 0.03)
    assert noisy[0] < 0.35 * blind[0]
    assert noisy[1] > 0.85 * blind[1]


def test_the_twin_s_own_best_is_simulated_also_beyond_a_cliff() -> None:
    """It lies beyond a cliff, along one flag from the best on this side, so nothing smooth leads there."""
    space = Space(
        base=EngineConfig(),
        dimensions=(
            Dimension(flag="max-num-seqs", choices=tuple(range(16, 336, 16))),
            Dimension(flag="quantization", choices=(None, "fp8")),
            Dimension(flag="max-num-batched-tokens", choices=tuple(range(512, 10752, 512))),
        ),
    )
    points = list(space.points())

    def capacity(config: EngineConfig) -> float:
        flags = config.flags
        if flags.get("max-num-batched-tokens") != 512:
            return (5.0 if flags.get("quantization") else 4.0) + int(str(flags["max-num-seqs"])) / 1000
        return 10.0 if int(str(flags["max-num-seqs"])) > 200 and flags.get("quantization") else 1.0

    outlooks = [screen(space, points, capacity, effort=200, seed=seed) for seed in range(10)]
    assert [math.exp(-found.log_cost.min()) for found in outlooks if found] == pytest.approx([10.0] * 10)


def test_a_dropped_candidate_is_told_as_dear_not_as_infeasible(tmp_path: Path) -> None:
    search = opened(tmp_path)
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    search.tell(proposal.number, Finished(at_least=-1.0, cost=0.4))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert (study.trials[0].value, study.trials[0].constraints) == (0.4, {"runs_within_limits": 0.0})


@pytest.mark.parametrize("sampler", [optuna.samplers.TPESampler(seed=1), optuna.samplers.RandomSampler(seed=1)])
def test_a_plain_optuna_sampler_goes_on_with_our_study(tmp_path: Path, sampler: optuna.samplers.BaseSampler) -> None:
    run(opened(tmp_path), 12)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db", sampler=sampler)
    ours = len(study.trials)
    study.optimize(lambda trial: math.exp(cost(point_of(SPACE, _suggested(trial)))), n_trials=3)
    assert [trial.state.name for trial in study.trials[ours:]] == ["COMPLETE"] * 3


def _suggested(trial: optuna.Trial) -> dict[str, Any]:
    return {name: trial._suggest(name, distribution) for name, distribution in distributions(SPACE).items()}


@pytest.mark.skipif(gp_available(), reason="torch is here")
def test_optuna_s_gp_sampler_without_torch_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="twin, tpe, random"):
        opened(tmp_path, Strategy.GP)


def test_without_a_twin_the_neighbours_of_what_could_not_run_come_last() -> None:
    bursts = [Tried(point, ran_out_of_memory=True) for point in POINTS if point["max-num-seqs"] == 512][:3]
    advice = advise(among(), [Tried(POINTS[0], log_cost=0.0), *bursts], worthwhile=1e-6)
    assert advice.row is not None
    assert POINTS[advice.row]["max-num-seqs"] != 512


def test_storage_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        opened(tmp_path / "missing")
