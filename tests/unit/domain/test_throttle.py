"""Replays stay within what the capacity model says of a replica."""

from __future__ import annotations

from controlplane.domain.operations.replica_capacity import Estimate, ReplicaCapacity, Source
from controlplane.domain.operations.throttle import throttle
from controlplane.domain.rollouts.analysis import Analysis, Counts, LoadProof, Verdict
from controlplane.domain.rollouts.rollout import Rollout, RolloutState, StepRecord
from tests.builders_serving import NOW, a_rollout

MEASURED = ReplicaCapacity(source=Source.CONFIRMED, rate_rps=Estimate(value=2.0, low=1.7, high=2.4))


def at_step(weight_percent: int, *, carried_rps: float | None = None, proven: bool = True) -> Rollout:
    load = LoadProof(wanted_rps=3, reached_rps=carried_rps or 0, proven=proven)
    counts = Counts(requests=100, slo_misses=0, errors=0)
    told = Analysis(verdict=Verdict.PASS, reason="", at=NOW, canary=counts, load=load)
    before = StepRecord(index=0, weight_percent=0, started_at=NOW, analysis=told)
    step = StepRecord(index=1, weight_percent=weight_percent, started_at=NOW)
    return a_rollout(state=RolloutState.PROGRESSING, step_index=1, steps=(before, step))


def test_before_any_user_a_replica_is_given_as_much_as_it_may_sustain_at_best() -> None:
    limit = throttle(MEASURED, at_step(0))
    assert limit is not None
    assert limit.most_rps == 2.4
    said = "replays throttled at 2.40 requests/s a replica: its capacity is 2.00 (1.70 to 2.40), confirmed"
    assert limit.note(3.0) == said
    assert limit.note(2.4) == ""


def test_with_users_it_is_given_what_it_most_likely_sustains() -> None:
    limit = throttle(MEASURED, at_step(5))
    assert limit is not None
    assert limit.most_rps == 2.0
    assert "users stand in the same queue" in limit.note(3.0)


def test_what_it_has_carried_before_it_is_given_again() -> None:
    carried, unproven = throttle(MEASURED, at_step(5, carried_rps=2.9)), at_step(5, carried_rps=2.9, proven=False)
    assert carried is not None
    assert carried.most_rps == 2.9
    limit = throttle(MEASURED, unproven)
    assert limit is not None
    assert limit.most_rps == 2.0


def test_what_nobody_measured_or_no_rate_was_too_high_for_limits_nothing() -> None:
    assert throttle(None, at_step(0)) is None
    assert throttle(MEASURED.evolve(censored=True), at_step(0)) is None
