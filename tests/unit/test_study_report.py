"""The report of a study, and what it says each flag did."""

from __future__ import annotations

from pathlib import Path

from controlplane.cli.report_html import study_page
from controlplane.domain.base import StudyId
from controlplane.domain.study import Study, StudyState, Trial
from dashboards.charts_study import trial_label
from tests.unit.study_world import World
from tuner.importance import importances


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
