"""What dies under load at every attempt is a result of its configuration; what broke otherwise is none."""

from __future__ import annotations

import pytest

from controlplane.domain.base import StudyId, TrialId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.services.studies.search import taught
from tests.fakes.fleet import FakeClock
from tests.unit.studies.study_world import service_spec
from tuner.answer.attempts import MAX_ATTEMPTS, after_last_attempt, is_unfinished
from tuner.search.search import Finished


def ended(failure: StartFailure | None, *, attempt: int, state: TrialState = TrialState.FAILED) -> Trial:
    return Trial(
        trial_id=TrialId("chat-1-3"),
        study_id=StudyId("chat-1"),
        number=3,
        kind=TrialKind.SEARCH,
        config=EngineConfig(flags={"max-num-seqs": 128}),
        state=state,
        attempt=attempt,
        start_failure=failure,
        reason="engine died under load (crashed): CUDA out of memory",
        started_at=FakeClock()(),
    )


def test_death_under_load_is_tried_again_and_then_believed() -> None:
    for attempt in range(1, MAX_ATTEMPTS):
        trial = ended(StartFailure.CRASHED, attempt=attempt)
        assert after_last_attempt(trial) == trial
        assert is_unfinished(trial)
    last = after_last_attempt(ended(StartFailure.CRASHED, attempt=MAX_ATTEMPTS))
    assert last.state is TrialState.INFEASIBLE
    assert last.reason is not None
    assert last.reason.startswith(f"in each of {MAX_ATTEMPTS} attempts: engine died under load")
    assert not is_unfinished(last)


def test_what_died_is_told_to_the_search_as_unable_to_run() -> None:
    last = after_last_attempt(ended(StartFailure.CRASHED, attempt=MAX_ATTEMPTS))
    told = taught(service_spec(), last)
    assert isinstance(told, Finished)
    assert (told.log_cost, told.at_least) == (None, None)
    assert not told.ran_out_of_memory  # the memory model says nothing of bursts under load


@pytest.mark.parametrize("failure", [None, StartFailure.TIMEOUT, StartFailure.PORT, StartFailure.OTHER])
def test_a_broken_world_stays_a_failure_and_teaches_nothing(failure: StartFailure | None) -> None:
    trial = ended(failure, attempt=MAX_ATTEMPTS)
    assert after_last_attempt(trial) == trial
    assert taught(service_spec(), trial) is None
    assert not is_unfinished(trial)


@pytest.mark.parametrize("state", [TrialState.FEASIBLE, TrialState.INFEASIBLE])
def test_results_stay_as_they_are(state: TrialState) -> None:
    trial = ended(StartFailure.OUT_OF_MEMORY, attempt=1, state=state)
    assert after_last_attempt(trial) == trial
