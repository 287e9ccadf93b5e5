"""How much is to be sent to a canary, and when it must end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.domain.base import RevisionId, RolloutId
from controlplane.domain.door.outcomes import Outcome, read_outcome
from controlplane.domain.engines.driver import Api
from controlplane.domain.report import RequestRecord
from controlplane.domain.rollouts.load_match import (
    Attempts,
    Finished,
    collapses,
    hanging,
    matched_step,
    proof,
    rate_rps,
    stalled,
    suffers,
    waits,
    wanted_rps,
)
from controlplane.domain.rollouts.replayed import Origin, finished, given_up, given_up_silent
from controlplane.domain.rollouts.rollout import RolloutState, StepRecord
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from tests.builders_serving import CHAT, NOW, a_rollout
from tests.unit.domain.test_outcomes import record

SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500),), target_qps=6)
OPTIONS = RolloutOptions()
ORIGIN = Origin(RolloutId("chat-r1"), CHAT, "m", RevisionId("rev"), "e", began=NOW, time_lapse=4)


def done(*outcomes: Outcome) -> Finished:
    return [(record(), outcome) for outcome in outcomes]


def test_a_replica_is_judged_at_what_it_will_carry_unless_the_step_says_otherwise() -> None:
    assert wanted_rps(StepSpec(weight_percent=5), SLOS, 2) == 3
    assert wanted_rps(StepSpec(weight_percent=5, load_rps=1.5), SLOS, 2) == 1.5
    assert wanted_rps(StepSpec(weight_percent=5, load_rps=0), SLOS, 2) is None


@pytest.mark.parametrize(
    ("changes", "matched"),
    [
        ({}, True),
        ({"state": RolloutState.PAUSED}, False),
        ({"stable": None}, False),
        ({"step_index": 1}, False),  # its replicas are being started
        ({"options": OPTIONS.evolve(match_load=False)}, False),
    ],
)
def test_only_a_step_under_judgement_is_loaded(changes: dict[str, Any], matched: bool) -> None:
    step = StepRecord(index=0, weight_percent=5, started_at=NOW)
    rollout = a_rollout(**({"state": RolloutState.PROGRESSING, "steps": (step,)} | changes))
    assert (matched_step(rollout) == step) is matched


def test_nothing_is_sent_where_no_stable_serves_beside() -> None:
    step = StepRecord(index=2, weight_percent=100, started_at=NOW)
    assert matched_step(a_rollout(state=RolloutState.PROGRESSING, steps=(step,), step_index=2)) is None


def test_the_load_reached_is_that_of_users_and_ours_per_replica_in_engine_time() -> None:
    users, ours = done(*[Outcome.SERVED] * 40), done(*[Outcome.SERVED] * 200, *[Outcome.REFUSED_BY_ENGINE] * 50)
    found = proof(
        3, users=users, replayed=ours, wall_s=10, time_lapse=4, replicas=2, options=OPTIONS, attempts=Attempts()
    )
    assert (found.reached_rps, found.proven) == (3.0, True)
    assert found.replayed_share == pytest.approx(200 / 240)
    assert rate_rps(users, 10, 4) == 1.0


def test_users_suffer_when_several_miss_and_more_than_is_allowed_of_them() -> None:
    served = [Outcome.SERVED]
    assert suffers("canary", done(Outcome.MISSED), SLOS, OPTIONS) is None
    assert suffers("canary", done(Outcome.MISSED, Outcome.LEFT_LATE, *served), SLOS, OPTIONS) is not None
    assert suffers("canary", done(*[Outcome.MISSED] * 10, *served * 90), SLOS, OPTIONS) is None
    assert suffers("canary", done(*[Outcome.MISSED] * 20, *served * 80), SLOS, OPTIONS) is not None


def test_a_queue_that_grows_is_a_collapse_and_a_few_late_ones_among_many_are_not() -> None:
    assert collapses([0.1, 0.2, 0.6, 0.7, 0.8], SLOS) is not None
    assert collapses([0.1, 0.2, 0.6, 0.7], SLOS) is None
    assert collapses([0.1] * 20 + [0.6, 0.7, 0.8], SLOS) is None


def test_a_request_that_later_ones_overtake_stands_in_no_queue() -> None:
    found = waits([0.1, 0.6, 2.0, 9.0], elapsed_s=20, answered_to_s=19.0, slos=SLOS)
    assert found == ([2.0, 9.0], [0.1, 0.6])
    nobody_answered = waits([0.1, 0.6, 2.0, 9.0], elapsed_s=20, answered_to_s=0.0, slos=SLOS)
    assert nobody_answered.overtaken_s == []


def test_overtaken_requests_hang_from_five_limits_on_and_a_few_are_none() -> None:
    assert hanging([2.4, 2.6, 9.0, 30.0], SLOS, OPTIONS) == 3
    assert hanging([2.4, 2.6, 9.0], SLOS, OPTIONS) == 0
    assert hanging([2.6], SLOS, OPTIONS.evolve(guard_hanging=1)) == 1


def test_streams_that_have_begun_hang_by_their_silence_alone() -> None:
    begun = [(0.1, 2.4), (0.1, 2.6), (0.1, 9.0), (0.1, 30.0)]
    assert hanging([], SLOS, OPTIONS, begun=begun) == 3
    assert hanging([9.0], SLOS, OPTIONS, begun=begun[:3]) == 3
    assert hanging([9.0], SLOS, OPTIONS, begun=begun[:2]) == 0
    assert stalled(begun, SLOS) == begun


def test_a_silent_stream_we_no_longer_wait_for_is_a_client_that_left_late() -> None:
    found = given_up_silent((0.2, 0.6), 10.0, 0, ORIGIN)
    assert (found.at - NOW).total_seconds() == pytest.approx(2.3)
    assert (found.ttft_ms, found.silent_ms) == (50, 150)
    assert read_outcome(found, SLOS.latency, time_lapse=4).outcome is Outcome.LEFT_LATE


def test_what_we_sent_is_recorded_as_a_gateway_would_in_wall_clock_time() -> None:
    sent = RequestRecord(
        index=3, scheduled_s=8, lag_ms=0, prompt_tokens=100, output_tokens=11, wanted_tokens=11, ttft_ms=400, e2e_ms=800
    )
    found = finished(sent, ORIGIN)
    assert ((found.at - NOW).total_seconds(), found.ttft_ms, found.replayed, found.key) == (2, 100, True, None)
    assert read_outcome(found, SLOS.latency, time_lapse=4).outcome is Outcome.SERVED


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"error": "http", "status": 400}, Outcome.REFUSED_BY_ENGINE),
        ({"error": "http", "status": 500}, Outcome.FAILED),
        ({"error": "connect"}, Outcome.FAILED),
        ({"error": "truncated", "status": 200}, Outcome.FAILED),
        ({"error": "timeout_first_token"}, Outcome.FAILED),
        ({"error": "generator"}, Outcome.INFRASTRUCTURE),
    ],
)
def test_failures_of_what_we_sent_mean_what_users_failures_mean(changes: dict[str, Any], outcome: Outcome) -> None:
    sent = RequestRecord(index=0, scheduled_s=0, lag_ms=0, prompt_tokens=1, output_tokens=0, wanted_tokens=1)
    assert read_outcome(finished(sent.evolve(**changes), ORIGIN), SLOS.latency).outcome is outcome


def test_a_request_that_our_generator_sent_late_counts_from_when_it_was_sent() -> None:
    """600 ms of lag on a limit of 500 ms were misses of the canary's, whatever it did."""
    late = RequestRecord(
        index=3, scheduled_s=8, lag_ms=600, prompt_tokens=9, output_tokens=2, wanted_tokens=2, ttft_ms=700, e2e_ms=900
    )
    found = finished(late, ORIGIN)
    assert ((found.at - NOW).total_seconds(), found.ttft_ms, found.e2e_ms) == (2.15, 25, 75)
    assert read_outcome(found, SLOS.latency, time_lapse=4).outcome is Outcome.SERVED


def test_what_we_no_longer_wait_for_is_a_client_that_left_late() -> None:
    found = given_up(0.8, 10.0, 0, ORIGIN)
    assert (found.at - NOW).total_seconds() == pytest.approx(2.3)
    assert read_outcome(found, SLOS.latency, time_lapse=4).outcome is Outcome.LEFT_LATE


def test_a_replay_to_an_engine_that_embeds_is_no_stream_without_a_token() -> None:
    answer = RequestRecord(
        index=0, scheduled_s=0, lag_ms=0, prompt_tokens=9, output_tokens=0, wanted_tokens=0, e2e_ms=8
    )
    record = finished(answer.evolve(status=200), ORIGIN._replace(api=Api.EMBEDDINGS))
    assert (record.stream, record.path, record.e2e_ms) == (False, "/v1/embeddings", 2)
    assert finished(answer, ORIGIN).stream


def test_collapses_of_another_day_are_not_in_a_row_with_those_of_today() -> None:
    """A rollout that paused after two collapses and was resumed a day later aborted at the first one."""
    twice = Attempts(collapses=2, hanging=1, overdue=4).of_step(NOW)
    again = twice.evolve(collapses=2, overdue=4)
    assert (twice.collapses, twice.overdue, twice.hanging) == (0, 0, 1)
    assert again.of_step(NOW) == again
    assert again.of_step(NOW + timedelta(days=1)).collapses == 0
