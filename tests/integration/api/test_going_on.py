"""A study goes on: from any point where its worker died, and with the budget that its own answer names."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from controlplane.cli.tune import _resume
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Recommendation, Study, StudyState, TrialKind, TrialState
from controlplane.services.studies.run_study import StudyProgress
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api
from tests.unit.studies.study_world import STUDY, Killed, World, pending, service_spec, trials
from tests.unit.studies.test_extend import done
from tuner.answer.policy import Action, next_step, spent

NEXT = {
    TrialKind.SEARCH: Action.SEARCH,
    TrialKind.CONFIRM_WINNER: Action.CONFIRM_WINNER,
    TrialKind.CONFIRM_BASELINE: Action.CONFIRM_BASELINE,
    TrialKind.CONFIRM_FLEET: Action.CHECK_FLEET,
}


def tuned(starts: int) -> ServiceSpec:
    space = {"quantization": {"choices": [None, "fp8"]}}
    levels = {"min_s": 10, "max_s": 20, "warmup_s": 1, "precision": 0.2}
    return service_spec(tuning={"space": space, "budget": {"engine_starts": starts}, "levels": levels})


def answered(study: Study | None) -> Recommendation:
    assert study is not None
    assert study.recommendation is not None
    return study.recommendation


def killed_after_every_trial(world: World) -> Study:
    """Run a study whose worker dies whenever a trial has ended, each time taken up by another one."""
    for number in range(20):

        def kill(_: StudyProgress, ended: int = number) -> None:
            if sum(trial.state is not TrialState.RUNNING for trial in trials(world)) > ended:
                raise Killed

        try:
            study = world.runner(f"w{number}", on_progress=kill).run_next()
        except Killed:
            world.clock.go_on(60)
            continue
        assert study is not None
        return study
    raise AssertionError("it never ends")


def test_the_command_that_an_unproved_answer_names_proves_it(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned(4))  # too few for the check: a study made so is refused
    pending(world)
    first = answered(world.runner().run_next())
    assert first.answer is Answer.IMPROVEMENT_UNCHECKED
    assert first.next_step is not None
    words = shlex.split(first.next_step)
    assert words[:2] == ["fleetune", "tune"]
    assert words[words.index("--resume") + 1] == STUDY
    before = trials(world)
    _resume(world.store, STUDY, world.spec, words[words.index("--budget") + 1], now=world.clock())
    proved = answered(world.runner("w2").run_next())
    assert proved.answer is Answer.IMPROVEMENT
    assert proved.fleet == first.fleet
    assert proved.next_step is None
    assert trials(world)[: len(before)] == before


def test_the_api_goes_on_with_a_larger_budget_and_refuses_one_that_is_used_up() -> None:
    store, ended = done()
    api = an_api(store)
    refused = api.post(f"/studies/{STUDY}/resume", json={"budget": {"engine_starts": ended.engine_starts}})
    assert refused.status_code == 422
    assert f"{ended.engine_starts + 1} or more" in refused.text
    reply = api.post(f"/studies/{STUDY}/resume", json={"budget": {"engine_starts": 20}})
    assert (reply.status_code, reply.json()["state"], reply.json()["recommendation"]) == (200, "pending", None)
    assert store.get_study(STUDY).value.spec.tuning.budget.engine_starts == 20


def test_a_study_that_is_not_there_does_not_go_on() -> None:
    assert an_api(FakeStore()).post("/studies/chat-9/resume", json={"budget": {}}).status_code == 404


def test_killed_after_every_trial_a_study_ends_with_the_same_answer(tmp_path: Path) -> None:
    whole, broken = (World(tmp_path / name, spec=tuned(8)) for name in ("whole", "broken"))
    for world in (whole, broken):
        world.folder.mkdir()
        pending(world)
    study = whole.runner().run_next()
    expected, again = answered(study), killed_after_every_trial(broken)
    assert again.state is StudyState.DONE
    assert expected.answer is Answer.IMPROVEMENT
    found = answered(again)
    assert (found.answer, found.config, found.fleet) == (expected.answer, expected.config, expected.fleet)
    made = trials(whole)
    assert [(t.kind, t.config) for t in trials(broken)] == [(t.kind, t.config) for t in made]
    for number in range(1, len(made)):  # the next step follows from the trials alone
        used = spent(again, made[:number], now=whole.clock())
        searched = made[number].kind is TrialKind.SEARCH
        step = next_step(whole.spec, made[:number], used, search_over=None if searched else "every candidate was tried")
        assert step.action is NEXT[made[number].kind]


@pytest.mark.parametrize("field", ["engine_starts", "wall_clock_s"])
def test_a_budget_that_is_none_is_refused(field: str) -> None:
    store, _ = done()
    assert an_api(store).post(f"/studies/{STUDY}/resume", json={"budget": {field: -1}}).status_code == 422
