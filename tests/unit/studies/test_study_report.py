"""The report of a study, and what it says each flag did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from controlplane.cli.tables.report_html import study_page
from controlplane.domain.base import StudyId, TrialId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Study, StudyState, Trial, TrialKind, TrialState
from dashboards.charts.study import trial_label
from tests.unit.studies.study_world import World, service_spec
from tuner.answer.importance import importances
from tuner.answer.winner import incumbent


def study_of(world: World, state: StudyState = StudyState.PENDING) -> Study:
    return Study(
        study_id=StudyId("chat-1"),
        service=world.spec.service,
        spec=world.spec,
        baseline=world.spec.baseline,
        state=state,
        created_at=world.clock(),
    )


def ran(world: World) -> tuple[Study, list[Trial]]:
    world.store.save_study(study_of(world), 0)
    study = world.runner().run_next()
    assert study is not None
    return study, [row.value for row in world.store.list_trials(study.study_id)]


def test_the_report_shows_every_trial_the_result_and_the_budget(tmp_path: Path) -> None:
    study, trials = ran(World(tmp_path))
    page = study_page(study, trials)
    assert study.recommendation is not None
    assert study.recommendation.summary.split(":")[0] in page
    assert f"<b>{study.engine_starts}</b>" in page
    assert "of 10 engine starts" in page
    assert all(trial_label(trial) in page for trial in trials)
    assert "Twin expected, req/s" in page
    assert "What each knob is worth" in page
    assert "not checked: an emulated engine" in page


def test_the_report_of_a_study_without_trials_says_so(tmp_path: Path) -> None:
    page = study_page(study_of(World(tmp_path)), [])
    assert "Too few trials were measured" in page
    assert "it has not ended" in page


def test_every_flag_that_varied_has_an_effect_with_its_interval(tmp_path: Path) -> None:
    world = World(tmp_path)
    _, trials = ran(world)
    found = {item.flag: item for item in importances(world.spec, trials)}
    assert found["quantization"].best == "fp8"
    assert found["quantization"].effect > 0.1
    assert all(item.low <= item.effect <= item.high for item in found.values())


def test_two_trials_say_nothing_about_single_flags(tmp_path: Path) -> None:
    world = World(tmp_path)
    _, trials = ran(world)
    assert importances(world.spec, trials[:2]) == ()


def trial_of(number: int, flags: Mapping[str, FlagValue], log_cost: float) -> Trial:
    rps = math.exp(-log_cost)
    return Trial(
        trial_id=TrialId(f"chat-1-{number}"),
        study_id=StudyId("chat-1"),
        number=number,
        kind=TrialKind.SEARCH,
        config=EngineConfig(flags=dict(flags)),
        state=TrialState.FEASIBLE,
        capacity=Capacity(rps=rps, low_rps=rps, high_rps=rps),
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_flags_only_changed_together_are_not_told_apart_and_may_each_be_all_of_it_or_nothing() -> None:
    both: Mapping[str, FlagValue] = {"quantization": "fp8", "max-num-batched-tokens": 512}
    third: Mapping[str, FlagValue] = {**both, "max-num-seqs": 64}
    rows: list[tuple[Mapping[str, FlagValue], float]] = [({}, 0.0), (both, -1.0), (third, -0.9), ({}, 0.05)]
    trials = [trial_of(number, flags, cost) for number, (flags, cost) in enumerate(rows)]
    found = {item.flag: item for item in importances(service_spec(), trials)}
    for flag in both:
        assert not found[flag].told_apart
        assert found[flag].low == 0
        assert found[flag].high > math.expm1(1.0)
    assert found["max-num-seqs"].told_apart


def test_the_interval_of_an_effect_holds_the_truth_as_often_as_it_says() -> None:
    choices: Mapping[str, Sequence[FlagValue]] = {
        "quantization": ("fp8", "none"),
        "max-num-seqs": (64, 128, 256, 512),
        "max-num-batched-tokens": (512, 1024, 2048, 4096),
        "performance-mode": ("balanced", "throughput"),
    }
    rng = np.random.default_rng(7)
    held: list[bool] = []
    for _ in range(100):
        shifts = {flag: {value: rng.normal(0, 0.45) for value in values} for flag, values in choices.items()}
        tried = [{flag: values[int(rng.integers(len(values)))] for flag, values in choices.items()} for _ in range(8)]
        costs = [sum(shifts[flag][value] for flag, value in flags.items()) + rng.normal(0, 0.1) for flags in tried]
        trials = [trial_of(number, *row) for number, row in enumerate(zip(tried, costs, strict=True))]
        for item in importances(service_spec(), trials):
            seen = [shifts[item.flag][value] for value in {flags[item.flag] for flags in tried}]
            held.append(item.low <= math.expm1(max(seen) - min(seen)) <= item.high)
    assert np.mean(held) > 0.93


def test_a_trial_of_one_request_per_second_and_gpu_can_be_the_incumbent() -> None:
    at_one, slower = trial_of(0, {}, 0.0), trial_of(1, {"quantization": "fp8"}, 0.2)  # on this scale its cost is 0
    assert incumbent(service_spec(), [slower, at_one]) == at_one
