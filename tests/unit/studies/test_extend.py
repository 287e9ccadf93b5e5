"""A study that is done goes on with a larger budget: from what it measured, not from the beginning."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Recommendation, Study, StudyState
from controlplane.services.studies.conclude import conclusion
from controlplane.services.studies.extend import extend_study, parse_budget
from tests.fakes.store import FakeStore
from tests.unit.tuner.answer.measured_trials import NOW, STUDY, a_study, recording, used
from tuner.answer.policy import Action, next_step, spent

LATER = NOW + timedelta(hours=5)


def done() -> tuple[FakeStore, Study]:
    """Return a store with the recorded H200 study, answered but not proved."""
    found, store = recording("h200-qwen14b-code"), FakeStore()
    study = a_study(found.spec)
    answered = conclusion(study, found.trials, stopped_because="budget", now=NOW)
    assert isinstance(answered, Recommendation)
    assert answered.answer is Answer.IMPROVEMENT_UNCHECKED
    ended = study.evolve(
        state=StudyState.DONE, recommendation=answered, finished_at=NOW, engine_starts=used(found.trials).engine_starts
    )
    store.save_study(ended, 0)
    for trial in found.trials:
        store.save_trial(trial, 0)
    return store, ended


def test_it_goes_on_with_the_check_that_the_budget_did_not_hold() -> None:
    store, _ = done()
    study = extend_study(store, STUDY, {"engine_starts": 20}, actor="me", now=LATER)
    trials = [row.value for row in store.list_trials(STUDY)]
    assert (study.state, study.recommendation) == (StudyState.PENDING, None)
    step = next_step(study.spec, trials, spent(study, trials, now=LATER), search_over="enough")
    assert step.action is Action.CHECK_FLEET
    assert step.candidate is not None
    assert step.candidate.fleet.replicas == 2
    assert store.list_events(limit=1)[0].action == "study.resumed"


def test_the_time_between_does_not_count_against_the_wall_clock() -> None:
    store, ended = done()
    study = extend_study(store, STUDY, {"engine_starts": 20}, actor="me", now=LATER)
    assert spent(study, (), now=LATER).wall_clock_s == spent(ended, (), now=NOW).wall_clock_s


def test_a_budget_that_holds_nothing_more_is_refused_with_the_least_that_does() -> None:
    store, ended = done()
    with pytest.raises(InvalidInput, match=f"{ended.engine_starts + 1} or more"):
        extend_study(store, STUDY, {"engine_starts": ended.engine_starts}, actor="me", now=LATER)


@pytest.mark.parametrize(("limit", "had", "more"), [("wall_clock_s", 400, 900), ("gpu_hours", 0.5, 2)])
def test_time_that_is_used_up_is_refused_rather_than_gone_on_with_for_nothing(
    limit: str, had: float, more: float
) -> None:
    store, ended = done()
    _, version = store.get_study(STUDY)
    budget = ended.spec.tuning.budget.evolve(**{limit: had})
    spec = ended.spec.evolve(tuning=ended.spec.tuning.evolve(budget=budget))
    late = {"spec": spec, "finished_at": NOW + timedelta(seconds=410), "gpu_seconds": 0.6 * 3600}
    store.save_study(ended.evolve(**late), version)
    with pytest.raises(InvalidInput, match=f"a budget of {had:g} .* holds nothing more.*{limit}="):
        extend_study(store, STUDY, {"engine_starts": 20}, actor="me", now=LATER)
    extended = extend_study(store, STUDY, {"engine_starts": 20, limit: more}, actor="me", now=LATER)
    assert extended.state is StudyState.PENDING


def test_what_was_applied_is_not_answered_anew() -> None:
    store, ended = done()
    _, version = store.get_study(STUDY)
    assert ended.recommendation is not None
    applied = ended.recommendation.evolve(applied_revision=RevisionId("chat-1"))
    store.save_study(ended.evolve(recommendation=applied), version)
    with pytest.raises(Conflict, match="applied already"):
        extend_study(store, STUDY, {"engine_starts": 20}, actor="me", now=LATER)


@pytest.mark.parametrize("state", [StudyState.RUNNING, StudyState.PAUSED, StudyState.ABORTED])
def test_only_a_study_that_is_done_or_failed_goes_on_with_a_budget(state: StudyState) -> None:
    store, ended = done()
    _, version = store.get_study(STUDY)
    store.save_study(ended.evolve(state=state, recommendation=None), version)
    with pytest.raises(Conflict, match=f"is {state.value}"):
        extend_study(store, STUDY, {"engine_starts": 20}, actor="me", now=LATER)


def test_a_budget_is_read_as_starts_or_by_name() -> None:
    assert parse_budget("20") == {"engine_starts": 20}
    assert parse_budget("engine_starts=20,wall_clock_s=900") == {"engine_starts": 20, "wall_clock_s": 900}
    for wrong in ("many", "starts=3", "wall_clock_s=soon"):
        with pytest.raises(InvalidInput):
            parse_budget(wrong)


def test_an_answer_from_before_answers_were_told_apart_can_still_be_read() -> None:
    _, ended = done()
    assert ended.recommendation is not None
    old = ended.model_dump(mode="json")
    for name in ("answer", "chances", "next_step"):
        del old["recommendation"][name]
    for name in ("plan", "idle_s", "wasted_starts"):
        del old[name]
    read = Study.model_validate(old)
    assert read.recommendation is not None
    assert read.recommendation.title == "Improvement"
