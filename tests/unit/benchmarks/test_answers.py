"""The benchmark of answers: what an answer is called, what it was worth, and that its world is what it says."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from benchmarks.answers.drawn import drawn, drawn_by_name
from benchmarks.answers.held_out import held_out
from benchmarks.answers.intervals import Stated, coverage, stated
from benchmarks.answers.kept import Job, Kept
from benchmarks.answers.main import report_of, summary, targets
from benchmarks.answers.routing import Lane, serve
from benchmarks.answers.scenarios import Scenario, scenarios
from benchmarks.answers.score import Score, Verdict, regret_percent, row, score, verdict_of
from benchmarks.answers.study import run_study
from benchmarks.answers.truth import Fleet, Truth
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.studies.capacity import FleetSize
from controlplane.domain.studies.study import Study, StudyState
from controlplane.services.studies.conclude import NOTHING_AFFORDABLE, NOTHING_MEETS
from controlplane.services.studies.trial_plan import requests_of
from tuner.twin.setup import resolve
from tuner.twin.simulate import RequestArrays, simulate

TUNED = EngineConfig(flags={"max-num-seqs": 64})


def study(**recommendation: object) -> Study:
    """A study that ended with such a recommendation; with none when nothing is said of it."""
    usual = {"config": TUNED, "fleet": FleetSize(replicas=1, gpus=1, usd_per_hour=5.0)}
    found = SimpleNamespace(**(usual | recommendation)) if recommendation else None
    why = None if recommendation else f"{NOTHING_MEETS}; closest was trial 0"
    return cast(Study, SimpleNamespace(recommendation=found, reason=why, gpu_seconds=100.0))


def failed(why: str = "the baseline could not be measured in 10 attempts: the node was lost") -> Study:
    """A study whose experiment broke."""
    return cast(Study, SimpleNamespace(recommendation=None, reason=why, gpu_seconds=100.0))


def evidence(*, held: bool | None) -> SimpleNamespace:
    return SimpleNamespace(fleet_check=SimpleNamespace(held=held))


class KnownTruth:
    """A baseline of 10 USD per hour, a best fleet of 5, and one configuration that needs what it is told."""

    def __init__(self, *, needs_usd: float = 5.0, holds: bool = True, best_usd: float | None = 5.0) -> None:
        self._needs, self._holds, self._best = needs_usd, holds, best_usd

    def best(self) -> Fleet | None:
        return None if self._best is None else fleet(self._best)

    def baseline(self) -> Fleet:
        return fleet(10.0)

    def fleet(self, config: EngineConfig) -> Fleet:
        return fleet(self._needs)

    def holds(self, config: EngineConfig, replicas: int) -> bool:
        return self._holds


def fleet(usd: float) -> Fleet:
    return Fleet(TUNED, FleetSize(replicas=1, gpus=1, usd_per_hour=usd), fits=True)


def judged(truth: KnownTruth, ended: Study) -> Score:
    return score(cast(Truth, truth), ended)


@pytest.mark.parametrize(
    ("named", "verdict"),
    [
        ("improvement", Verdict.IMPROVEMENT),
        ("improvement_unchecked", Verdict.UNCHECKED),
        ("same_fleet_more_capacity", Verdict.NO_IMPROVEMENT),
        ("no_improvement", Verdict.NO_IMPROVEMENT),
        ("out_of_reach", Verdict.OUT_OF_REACH),
    ],
)
def test_an_answer_that_is_named_is_taken_by_its_name(named: str, verdict: Verdict) -> None:
    assert verdict_of(study(answer=named)) is verdict


def test_an_answer_without_a_name_is_told_by_its_fleet_check() -> None:
    assert verdict_of(study(improvement=True, evidence=evidence(held=True))) is Verdict.IMPROVEMENT
    assert verdict_of(study(improvement=True, evidence=evidence(held=None))) is Verdict.UNCHECKED
    assert verdict_of(study(improvement=False)) is Verdict.NO_IMPROVEMENT
    assert verdict_of(study()) is Verdict.OUT_OF_REACH


def test_a_study_that_failed_is_no_answer_and_misses_what_there_was_to_win() -> None:
    found = judged(KnownTruth(), failed())
    assert (found.verdict, found.missed_win, found.regret) == (Verdict.FAILED, True, math.inf)
    assert not judged(KnownTruth(best_usd=10.0), failed()).missed_win
    assert judged(KnownTruth(best_usd=None), failed()).regret is None
    assert verdict_of(failed(f"{NOTHING_AFFORDABLE} 3 USD per hour or less")) is Verdict.OUT_OF_REACH


def test_a_study_that_failed_stands_among_the_answers() -> None:
    scores = [judged(KnownTruth(), failed()), judged(KnownTruth(), study(answer="improvement"))]
    assert row("a", 8, cast(Truth, KnownTruth()), scores)["answers"] == {
        "improvement": 1,
        "unchecked": 0,
        "no_improvement": 0,
        "out_of_reach": 0,
        "failed": 1,
    }


def test_a_win_that_nobody_recommends_is_missed() -> None:
    kept = study(answer="no_improvement", fleet=FleetSize(replicas=2, gpus=2, usd_per_hour=10.0))
    found = judged(KnownTruth(), kept)
    assert (found.missed_win, found.regret, found.false_win) == (True, 1.0, False)
    assert not judged(KnownTruth(best_usd=9.0), kept).missed_win  # a tenth is no win that must be found


def test_a_fleet_that_misses_costs_what_it_would_truly_need() -> None:
    short = judged(KnownTruth(needs_usd=7.5, holds=False), study(answer="improvement"))
    assert (short.slo_missed, short.regret, short.false_win) == (True, 0.5, False)
    dear = judged(KnownTruth(needs_usd=10.0, holds=False), study(answer="improvement"))
    assert dear.false_win


def test_where_no_fleet_has_the_headroom_only_one_that_truly_holds_is_not_infinitely_wrong() -> None:
    beyond, short = KnownTruth(best_usd=None), KnownTruth(best_usd=None, holds=False)
    assert judged(beyond, study()).regret is None
    for answer in ("improvement", "same_fleet_more_capacity", "no_improvement"):
        wrong = judged(short, study(answer=answer))
        assert (wrong.regret, wrong.slo_missed, wrong.unmatched) == (float("inf"), True, False)
        held = judged(beyond, study(answer=answer))
        assert (held.regret, held.slo_missed, held.unmatched) == (None, False, True)


def test_a_regret_that_cannot_be_stated_makes_no_other_look_better() -> None:
    held, lost = judged(KnownTruth(best_usd=None), study(answer="improvement")), judged(KnownTruth(), failed())
    assert held.regret is None
    assert regret_percent([lost] * 2 + [held] * 18) == {"median": None, "p90": None}
    assert row("a", 8, cast(Truth, KnownTruth(best_usd=None)), [held, lost])["held_without_headroom"] == 1


def test_the_benchmark_can_fail_and_says_by_how_much() -> None:
    lost = Score(Verdict.NO_IMPROVEMENT, 1.0, True, False, True, True, 100.0)
    found = targets({Job("a", 12, 1): lost, Job("a", 8, 1): lost})
    assert {name for name, target in found.items() if target["met"]} == {"false_wins_percent"}
    assert found["missed_wins_percent_at_12_starts"]["value"] == 100
    assert found["median_regret_percent"]["value"] == 100


def test_what_was_not_run_is_not_met() -> None:
    assert not targets({})["missed_wins_percent_at_12_starts"]["met"]


def test_the_report_has_a_row_per_scenario_and_budget() -> None:
    good = Score(Verdict.IMPROVEMENT, 0.0, False, False, True, False, 100.0)
    scores = {Job("a", budget, seed): good for budget in (8, 12) for seed in (1, 2)}
    found = report_of(scores, {"a": cast(Truth, KnownTruth())})
    assert [(row["name"], row["budget"]) for row in found["scenarios"]] == [("a", 8), ("a", 12)]
    assert found["scenarios"][0]["answers"] == {
        "improvement": 2,
        "unchecked": 0,
        "no_improvement": 0,
        "out_of_reach": 0,
        "failed": 0,
    }
    assert all(target["met"] for target in found["summary"].values())
    assert len(list(summary(found))) == 1 + 2 + 6
    some = list(summary(report_of({Job("a", 8, 1): good}, {"a": cast(Truth, KnownTruth())})))
    assert [line[:6] for line in some if "missed_wins" in line] == ["no run", "met   "]


@pytest.mark.parametrize(("true_rps", "holds"), [(10.0, True), (13.0, False)])
def test_an_interval_that_an_answer_states_holds_the_truth_or_not(true_rps: float, holds: bool) -> None:
    base, tuned = EngineConfig(), TUNED
    truth = cast(Truth, SimpleNamespace(capacity_rps=lambda config: 5.0 if config == base else true_rps))
    side = {5.0: (4.0, 6.0), 10.0: (9.0, 11.0)}
    sides = {
        at: SimpleNamespace(capacity=SimpleNamespace(low_rps=low, high_rps=high)) for at, (low, high) in side.items()
    }
    found = SimpleNamespace(
        config=tuned,
        evidence=SimpleNamespace(confirmed_baseline=sides[5.0], confirmed_winner=sides[10.0]),
        chances=SimpleNamespace(capacity_ratio_low=1.7, capacity_ratio_high=2.3),
    )
    told = stated(truth, cast(Study, SimpleNamespace(recommendation=found, baseline=base)))
    held = {each.what: each.holds for each in told}
    assert held == {"baseline capacity": True, "winner capacity": holds, "gain": holds}
    assert coverage([*told, *told])["gain"] == {"stated": 2, "held_percent": 100.0 * holds}


def test_how_likely_fleets_hold_is_held_against_how_many_do() -> None:
    def recommended(chance: float | None, *, misses: bool = False) -> Score:
        return Score(Verdict.IMPROVEMENT, 0.0, False, False, True, misses, 100.0, holds_chance=chance)

    sure, unsure = [recommended(0.96), recommended(0.98, misses=True)], [recommended(0.7)]
    scores = {Job("a", 8, seed): each for seed, each in enumerate([*sure, *unsure, recommended(None)])}
    report = report_of(scores, {"a": cast(Truth, KnownTruth())})
    assert report["probabilities"] == {
        "sure": {"stated": 2, "stated_percent": 97.0, "held_percent": 50.0},
        "unsure": {"stated": 1, "stated_percent": 70.0, "held_percent": 100.0},
    }
    assert list(summary(report))[-2:] == [
        "fleets sure to hold: with 97 % as stated, 50 % of 2 do",
        "fleets unsure to hold: with 70 % as stated, 100 % of 1 do",
    ]


def test_scenarios_differ_in_what_matters_and_those_held_aside_are_apart() -> None:
    known, aside = scenarios(), held_out()
    assert len(known) >= 8
    assert len({each.spec.model.name for each in known}) == 3
    assert len({each.spec.gpus.type for each in known}) >= 2
    assert {each.name for each in known}.isdisjoint(each.name for each in aside)
    assert {min(each.spec.gpus.count for each in known), max(each.spec.gpus.count for each in known)} == {1, 8}


def test_a_draw_is_the_same_every_time_and_another_draw_is_another() -> None:
    first = drawn(6, 1)
    assert [each.spec for each in first] == [each.spec for each in drawn(6, 1)]
    assert all(drawn_by_name(each.name) == each for each in first)
    assert drawn_by_name(held_out()[0].name) is None
    others = drawn(6, 2)
    assert all(
        one.spec != other.spec and one.nature_seed != other.nature_seed
        for one, other in zip(first, others, strict=True)
    )
    assert len({each.spec.workload.kind for each in drawn(12, 1)}) == 2


@pytest.mark.parametrize("chosen", [*scenarios(), *held_out(), *drawn(8, 1)], ids=lambda each: each.name)
def test_the_world_is_not_what_the_product_believes(chosen: Scenario) -> None:
    config = chosen.spec.baseline
    true, believed = chosen.nature.setup(config), resolve(chosen.nature.shape, chosen.spec.gpus.type, config)
    assert true is not None
    assert true.kv_blocks < believed.kv_blocks
    off = [abs(math.log(a / b)) for a, b in zip(true.cost, believed.cost, strict=True) if a > 0 and a != b]
    assert np.median(off) > 0.05


def test_one_engine_serves_as_the_simulator_says_and_a_slower_one_is_slower() -> None:
    chosen = scenarios()[0]
    setup = chosen.nature.setup(chosen.spec.baseline)
    assert setup is not None
    requests = requests_of(chosen.spec.workload, rate_rps=4, duration_s=30, seed=1)
    plain = simulate(setup, requests)
    np.testing.assert_array_equal(serve([Lane(setup)], requests).e2e_s, plain.e2e_s)
    slower = serve([Lane(setup, 1.2)], requests).e2e_s
    assert np.mean(slower) > 1.2 * np.mean(plain.e2e_s)


def test_each_engine_of_a_fleet_serves_its_share_as_it_would_alone() -> None:
    chosen = scenarios()[0]
    setup = chosen.nature.setup(chosen.spec.baseline)
    assert setup is not None
    requests = requests_of(chosen.spec.workload, rate_rps=9, duration_s=60, seed=1)
    together = serve([Lane(setup)] * 3, requests)
    for number in range(3):
        mine = together.engine == number
        assert 0.2 < np.mean(mine) < 0.5
        alone = simulate(setup, RequestArrays(*(column[mine] for column in requests[:3])))
        np.testing.assert_array_equal(together.ttft_s[mine], alone.ttft_s)
        np.testing.assert_array_equal(together.e2e_s[mine], alone.e2e_s)


def test_a_fleet_shares_the_load_of_which_one_engine_would_drown() -> None:
    chosen = scenarios()[0]
    setup = chosen.nature.setup(chosen.spec.baseline)
    assert setup is not None
    requests = requests_of(chosen.spec.workload, rate_rps=24, duration_s=60, seed=1)
    alone, together = serve([Lane(setup)], requests), serve([Lane(setup)] * 4, requests)
    assert np.percentile(together.ttft_s, 95) < np.percentile(alone.ttft_s, 95) / 3
    assert not np.isnan(together.e2e_s).any()


@pytest.mark.slow
def test_a_whole_study_ends_and_ends_the_same_way_again() -> None:
    chosen = next(each for each in scenarios() if "out-of-reach" in each.name)
    first, again = (run_study(chosen, budget=6, seed=3) for _ in range(2))
    assert first.study.state in (StudyState.DONE, StudyState.FAILED)
    levels = [[level.report for trial in ended.trials for level in trial.levels] for ended in (first, again)]
    assert levels[0] == levels[1]
    assert first.study.gpu_seconds == again.study.gpu_seconds > 0


def test_the_truth_is_found_once_and_kept(tmp_path: Path) -> None:
    chosen = next(each for each in scenarios() if "out-of-reach" in each.name)
    truth = Truth(chosen, tmp_path)
    capacity = truth.capacity_rps(chosen.spec.baseline)
    assert 0.5 < capacity < chosen.spec.slos.target_qps
    kept = list(tmp_path.rglob("capacity-*.json"))
    assert len(kept) == 1
    kept[0].write_text("7.5")
    assert Truth(chosen, tmp_path).capacity_rps(chosen.spec.baseline) == 7.5
    assert truth.fleet(chosen.spec.baseline) != Truth(chosen, tmp_path / "other").fleet(chosen.spec.baseline)


def test_only_configurations_that_may_be_the_cheapest_are_run_for_half_an_hour(tmp_path: Path) -> None:
    chosen = next(each for each in scenarios() if "out-of-reach" in each.name)
    truth = Truth(chosen, tmp_path)
    configs = truth.configs()
    truth.capacity_rps(configs[0])
    (folder,) = tmp_path.iterdir()
    rates = {config.content_hash(): 0.1 for config in configs}  # far from enough on these GPUs
    good, luckier = configs[1].content_hash(), configs[2].content_hash()
    rates[good], rates[luckier] = 40.0, 30.0
    for name, rate in rates.items():
        (folder / f"rough-{name}.json").write_text(str(rate))
    for name, rate in ((good, 50.0), (luckier, 1.0)):
        (folder / f"capacity-{name}.json").write_text(str(rate))
    best = truth.best()
    assert best is not None
    assert best.config == configs[1]
    assert len(list(folder.glob("capacity-*.json"))) == 3


def test_studies_kept_beside_a_report_are_read_back_but_not_those_that_a_kill_or_other_code_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, cut, others = (Job("drawn-1-1", 8, seed) for seed in (1, 2, 3))
    ended = Score(Verdict.OUT_OF_REACH, math.inf, False, False, True, False, 12.5, (Stated("gain", holds=False),))
    kept = Kept(tmp_path / "studies.jsonl")
    with monkeypatch.context() as older:
        older.setattr("benchmarks.answers.kept.code_hash", lambda: "other code")
        kept.add({others: ended})
    kept.add({cut: ended})
    text = (tmp_path / "studies.jsonl").read_text()
    (tmp_path / "studies.jsonl").write_text(text[:-20])
    kept.add({mine: ended})

    assert kept.scores([mine, cut, others]) == {mine: ended}
    assert kept.scores([cut]) == {}
    assert Kept(None).scores([mine]) == {}
