"""The search benchmark: its held-out truths are no profile's, its recommended loads are judged on other arrivals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.search.compare import per_scenario_targets, score
from benchmarks.search.contestants import Episode, baseline_row
from benchmarks.search.held_out import DEVELOPED_ON, all_scenarios, held_out, scenario_named
from benchmarks.search.paired import paired
from benchmarks.search.scenarios import Scenario, as_it_is
from benchmarks.search.trial import Outcome
from benchmarks.search.truth import Truth, true_setup
from controlplane.domain.engines.engine import EngineConfig
from tuner.space.first_tier import shape_of

ODD = [each for each in held_out() if each.oddity is not as_it_is]


def a_truth(scenario: Scenario, capacity_rps: float = 10.0) -> Truth:
    """The baseline alone, its capacity on the minute as given."""
    shape = shape_of(scenario.spec)
    assert shape is not None
    baseline = scenario.spec.baseline
    point = scenario.space.point(baseline)
    one = np.array([capacity_rps])
    return Truth(scenario, shape, [point], [baseline], one, np.array([True]), np.array([10.0]))


def an_outcome(measured_rps: float) -> Outcome:
    return Outcome(0, measured_rps, None, False, 100.0)


def test_names_tell_scenarios_apart_and_most_were_never_developed_on() -> None:
    names = [each.name for each in all_scenarios()]
    assert len(names) == len(set(names))
    assert len(held_out()) - len(DEVELOPED_ON) >= 10
    assert scenario_named(names[-1]).name == names[-1]


@pytest.mark.parametrize("scenario", ODD, ids=lambda each: each.name)
def test_an_odd_truth_is_another_engine_than_the_twins_somewhere_in_its_space(scenario: Scenario) -> None:
    plain = a_truth(scenario._replace(oddity=as_it_is))
    beyond = {"quantization": "fp8", "kv-cache-dtype": "fp8", "tensor-parallel-size": scenario.spec.gpus.count}
    odd = [EngineConfig(flags={**scenario.spec.baseline.flags, **beyond}), scenario.spec.baseline]
    changed = [true_setup(a_truth(scenario))(config) != true_setup(plain)(config) for config in odd]
    assert any(changed)
    assert all(true_setup(plain)(config).profile == true_setup(a_truth(scenario))(config).profile for config in odd)


def test_every_space_holds_its_baseline() -> None:
    for scenario in held_out():
        assert baseline_row(a_truth(scenario)) == 0


def test_a_recommended_load_is_judged_on_the_half_hour_beside_the_minute() -> None:
    generous = a_truth(scenario_named("8b-conv-1h200-server"), capacity_rps=30.0)
    found = score(generous, Episode([an_outcome(32.0)]), "someone")
    assert (found.slo_missed, found.slo_missed_in_minute) == (True, False)
    assert not score(generous, Episode([an_outcome(2.0)]), "someone").slo_missed


def test_an_episode_that_measured_nothing_recommends_nothing() -> None:
    truth = a_truth(scenario_named("8b-conv-1h200-server"))
    found = score(truth, Episode([Outcome(0, None, None, True, 45.0)]), "someone")
    assert (found.slo_missed, found.slo_missed_in_minute) == (False, False)


def test_every_scenario_has_a_target_for_keeping_its_slos() -> None:
    def row(name: str, missed: int) -> dict[str, object]:
        gaps = {"1": 0.1, "40": 0.0}
        starts, seconds = {"median": 3.0}, {"median": 100.0}
        shown = {"starts_to_5_percent": starts, "gpu_seconds_to_5_percent": seconds, "median_gap_after": gaps}
        return {"name": name, "slo_missed": missed, "runs": 10, **shown}

    rows = [{"name": "s", "contestants": [row("ours_calibrated", 1), row("random", 0)]}]
    found = per_scenario_targets(rows)["s: share of ours_calibrated keeping its SLOs"]
    assert (found["value"], found["met"]) == (0.9, False)


def a_row(name: str, gaps: Sequence[float | None]) -> dict[str, object]:
    """One contestant after one budget: every seed's gap, and the median that is shown."""
    known = sorted(float("inf") if gap is None else gap for gap in gaps)
    median = known[(len(known) - 1) // 2]
    shown = None if median == float("inf") else median
    return {
        "name": name,
        "slo_missed": 0,
        "runs": len(gaps),
        "median_gap_after": {"4": shown},
        "gaps_after": {"4": gaps},
    }


def worse_budgets(ours: Sequence[float | None], chance: Sequence[float | None]) -> dict[str, list[str]]:
    rows = [{"name": "s", "contestants": [a_row("ours_without_twin", ours), a_row("random", chance)]}]
    found = per_scenario_targets(rows)
    return {name: target["budgets"] for name, target in found.items() if "worse than random" in name}


def test_a_worse_median_is_counted_also_where_chance_explains_it() -> None:
    ours = [0.2] * 11 + [0.1] * 9
    chance = [0.1] * 11 + [0.2] * 9
    by_medians, tested = worse_budgets(ours, chance).values()
    assert (by_medians, tested) == (["4"], [])


def test_what_chance_does_not_explain_is_worse_although_the_medians_agree() -> None:
    ours = [0.1] * 12 + [None] * 8
    chance = [0.1] * 12 + [0.3] * 8
    by_medians, tested = worse_budgets(ours, chance).values()
    assert (by_medians, tested) == ([], ["4"])


def test_a_few_seeds_are_not_tested_at_all() -> None:
    assert len(worse_budgets([None] * 19, [0.1] * 19)) == 1


@pytest.mark.parametrize(
    ("worse", "better", "level"),
    [(0, 0, 1.0), (5, 0, 0.5**5), (14, 6, 0.0577), (15, 5, 0.0207), (0, 9, 1.0)],
)
def test_pairs_are_told_apart_by_an_exact_sign_test(worse: int, better: int, level: float) -> None:
    """The levels by the binomial distribution of 20 fair coins (Conover, 1999, table A3)."""
    found = paired([2.0] * worse + [1.0] * better + [float("inf")], [1.0] * worse + [2.0] * better + [float("inf")])
    assert found[:2] == (worse, better)
    assert found.p_value == pytest.approx(level, abs=1e-4)
    assert found.is_worse == (level <= 0.05)
