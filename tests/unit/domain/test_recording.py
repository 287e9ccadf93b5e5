"""When users' own requests are replayed, and what is said of it."""

from __future__ import annotations

import pytest

from controlplane.domain.door.outcomes import Outcome, read_outcome
from controlplane.domain.rollouts.analysis import LoadProof, ReplaySource
from controlplane.domain.rollouts.judge import describe_load
from controlplane.domain.rollouts.load_match import Attempts, proof
from controlplane.domain.rollouts.recording import MOST_REQUESTS, declared_instead, lacking, replayable
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.workload import ArrivalProcess, TraceWorkload
from tests.unit.domain.test_outcomes import record

RECORDED = ReplaySource(recorded=1500, recorded_s=600)


@pytest.mark.parametrize(
    ("requests", "spans_s", "enough"),
    [(999, 3600, False), (1000, 119, False), (1000, 120, True), (MOST_REQUESTS, 10, True)],
)
def test_a_recording_is_enough_by_its_requests_and_by_its_time(requests: int, spans_s: float, enough: bool) -> None:
    assert (lacking(requests, spans_s) is None) is enough


def test_what_it_lacks_is_said_with_both_numbers() -> None:
    assert lacking(120, 300) == "120 requests of users recorded of the 1000 that are enough"
    assert lacking(1200, 30) == "users' requests of 30 s recorded of the 120 s that are enough"


def test_a_recording_is_sent_as_it_came_and_nothing_of_it_is_cut() -> None:
    workload = replayable("file", longest_prompt=90_000, longest_output=4000)
    assert workload.arrivals.process is ArrivalProcess.TRACE
    assert (workload.max_prompt_tokens, workload.max_output_tokens) == (90_000, 4000)


def test_the_proof_of_a_load_says_what_was_replayed_and_on_how_many_requests_it_rests() -> None:
    load = LoadProof(wanted_rps=3, reached_rps=3, replayed_share=0.9, proven=True, source=RECORDED)
    assert describe_load(load).endswith("90 % of them replayed from 1500 recorded requests of users (10 min)")
    instead = declared_instead(TraceWorkload(trace="azure-llm-2023/conv"), "120 recorded")
    said = describe_load(load.evolve(source=instead))
    assert said.endswith("replayed from the declared workload (trace azure-llm-2023/conv; 120 recorded)")


@pytest.mark.parametrize("replayed", [0, 3])
def test_a_source_is_told_only_where_something_was_replayed(replayed: int) -> None:
    answered = (record(), read_outcome(record(), ()).outcome)
    assert answered[1] is Outcome.SERVED
    found = proof(
        3,
        users=[answered],
        replayed=[answered] * replayed,
        wall_s=1,
        time_lapse=1,
        replicas=1,
        options=RolloutOptions(),
        attempts=Attempts(source=RECORDED),
    )
    assert found.source == (RECORDED if replayed else None)


def test_a_throttled_load_is_not_proven_by_a_lucky_window() -> None:
    """Sent at 2.2 a second; that 2.6 finished in the last one proves no load of 2.6."""
    answered = (record(), read_outcome(record(), ()).outcome)

    def found(users: int, replayed: int, most_rps: float | None) -> LoadProof:
        return proof(
            3,
            users=[answered] * users,
            replayed=[answered] * replayed,
            wall_s=10,
            time_lapse=1,
            replicas=1,
            options=RolloutOptions(),
            attempts=Attempts(most_rps=most_rps),
        )

    assert found(0, 26, None).proven
    assert found(0, 26, 2.2).reached_rps == 2.2
    assert not found(0, 26, 2.2).proven
    assert found(26, 1, 2.2).proven  # users brought it themselves
