"""What live requests of a canary mean for its rollout, from the record to the verdict."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import GatewayRecord, InFlight
from controlplane.domain.rollouts.analysis import Analysis, Counts
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from tests.builders_serving import CHAT
from tests.integration.controller.site import Site

BUSY = 400
SLOW_STEP = RolloutOptions(steps=(StepSpec(weight_percent=20, min_s=3000, max_s=4000), StepSpec(weight_percent=100)))


def progressing(**changes: Any) -> Site:
    site = Site()
    site.serving(**changes)
    site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    return site


def finished(site: Site, revision: RevisionId | None, **changes: Any) -> GatewayRecord:
    assert revision is not None
    site.records.add(
        GatewayRecord(
            id=f"x{len(site.records.records)}",
            at=site.clock() + timedelta(milliseconds=1),
            gateway="gw-1",
            service=CHAT,
            model="llama-8b",
            revision=revision,
            engine_id="e",
            path="/v1/chat/completions",
            stream=True,
            status=200,
        ).evolve(**changes)
    )
    return site.records.records[-1]


def test_a_canary_that_hangs_is_aborted_within_seconds_before_a_single_request_ends() -> None:
    site = progressing(rollout=SLOW_STEP)
    stable = InFlight(service=CHAT, revision=site.rollout.stable, requests=60, without_token_s=(0.1,) * 9)
    site.router.in_flight = [stable]
    site.passes(2)
    assert analysis(site).guard is None
    hung = InFlight(service=CHAT, revision=site.rollout.canary, requests=3, without_token_s=(3.0, 4.0, 5.0))
    site.router.in_flight = [stable, hung]
    site.passes(1)
    assert site.rollout.state is RolloutState.ABORTING
    assert "3 of 3 canary requests in flight hang" in site.rollout.reason


GONE = {"status": 499, "client_gone": True}


def test_a_canary_whose_clients_give_up_waiting_is_aborted() -> None:
    site = progressing(rollout=SLOW_STEP)
    for _ in range(40):
        site.passes(1, requests=5)
        finished(site, site.rollout.canary, e2e_ms=20_000, **GONE)
        if site.rollout.state is not RolloutState.PROGRESSING:
            break
    assert site.rollout.state in (RolloutState.ABORTING, RolloutState.ABORTED)
    assert "SLO misses +" in site.rollout.reason


def test_clients_that_leave_within_the_limits_say_nothing() -> None:
    site = progressing(rollout=SLOW_STEP)
    for _ in range(30):
        site.passes(1, requests=5)
        finished(site, site.rollout.canary, e2e_ms=100, **GONE)
    assert analysis(site).canary.left_early >= 29
    assert analysis(site).canary.slo_misses == 0


def test_a_gateway_restart_in_a_step_does_not_abort_a_good_canary() -> None:
    site = progressing(rollout=SLOW_STEP)
    site.passes(5, requests=50)
    for _ in range(6):
        finished(site, site.rollout.canary, error="gateway_stopped", truncated=True, ttft_ms=90, e2e_ms=900)
    site.passes(5, requests=50)
    assert site.rollout.state is RolloutState.PROGRESSING
    assert (analysis(site).canary.infrastructure, analysis(site).canary.truncated) == (6, 0)


def test_streams_the_engine_broke_off_still_abort_at_once() -> None:
    site = progressing(rollout=SLOW_STEP)
    for _ in range(3):
        finished(site, site.rollout.canary, error="truncated", truncated=True, ttft_ms=90, e2e_ms=900)
    site.passes(1)
    assert "truncated by the engine" in site.rollout.reason


@pytest.mark.parametrize("restart_every", [1, 3])
def test_a_controller_that_starts_anew_counts_the_same(restart_every: int) -> None:
    steady, restarted = progressing(rollout=SLOW_STEP), progressing(rollout=SLOW_STEP)
    for number in range(12):
        for site in (steady, restarted):
            site.passes(1, requests=40)
        if number % restart_every == 0:
            restarted.restart()
    assert analysis(steady).canary.requests > 80
    assert seen(analysis(steady)) == seen(analysis(restarted))


@pytest.mark.parametrize("ttft_ms", [90, 9000])
def test_a_split_that_is_not_the_step_s_weight_is_no_verdict(ttft_ms: float) -> None:
    site = progressing(
        rollout=RolloutOptions(steps=(StepSpec(weight_percent=20, min_s=0), StepSpec(weight_percent=100)))
    )
    for _ in range(300):
        finished(site, site.rollout.canary, ttft_ms=ttft_ms, e2e_ms=9500)
        finished(site, site.rollout.stable, ttft_ms=90, e2e_ms=9500)
    site.passes(1)
    assert site.rollout.state is RolloutState.PROGRESSING
    assert analysis(site).verdict == "error"
    assert "50.0 % where its weight is 20 %" in analysis(site).reason


def test_sessions_count_once_for_the_split() -> None:
    site = progressing(
        rollout=RolloutOptions(steps=(StepSpec(weight_percent=20, min_s=0), StepSpec(weight_percent=100)))
    )
    for number in range(400):
        finished(site, site.rollout.canary, session="one", ttft_ms=90, e2e_ms=100)
        finished(site, site.rollout.stable, session=f"s{number % 4}", ttft_ms=90, e2e_ms=100)
    site.passes(1)
    assert analysis(site).verdict != "error"
    assert analysis(site).canary.asked == 1


UNSPLIT = {"weight_percent": 1}  # not asked by the step's weight: these say nothing of the split


def with_misses(site: Site, *, of_one: bool) -> Site:
    """Let users ask for a while; half of the canary's requests miss, of one user or of as many as there are misses."""
    for number in range(60):
        site.passes(1, requests=20)
        if site.rollout.state is not RolloutState.PROGRESSING:
            break
        for part in range(4):
            finished(site, site.rollout.canary, session=f"u{number}.{part}", **UNSPLIT, ttft_ms=90, e2e_ms=100)
            heavy = "heavy" if of_one else f"h{number}.{part}"
            finished(site, site.rollout.canary, session=heavy, **UNSPLIT, ttft_ms=9000, e2e_ms=9100)
    return site


def test_one_user_whose_requests_all_miss_is_one_user_however_many_they_are() -> None:
    """The split is by user: that this one came to the canary says nothing of it. Of as many users it says all."""
    options = SLOW_STEP.evolve(steps=(SLOW_STEP.steps[0].evolve(weight_percent=40), SLOW_STEP.steps[1]))
    one = with_misses(progressing(rollout=options), of_one=True)
    assert one.rollout.state is RolloutState.PROGRESSING
    assert analysis(one).canary.slo_misses > 200
    clustered = analysis(one).canary.clustered
    assert clustered is not None
    assert clustered.misses == 10
    many = with_misses(progressing(rollout=options), of_one=False)
    assert many.rollout.state in (RolloutState.ABORTING, RolloutState.ABORTED)
    assert "SLO misses +" in many.rollout.reason


def analysis(site: Site) -> Analysis:
    found = site.rollout.steps[-1].analysis
    assert found is not None
    return found


def seen(found: Analysis) -> tuple[Counts, Counts | None, str]:
    return found.canary, found.stable, found.reason
