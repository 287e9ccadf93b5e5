"""A clock that is set by an hour, forward or back: nothing goes early, is done twice, or waits for the old time.

The installation's own clock is steady while it runs; between two of its lives it may have been set.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.adapters.metrics_scrape.own import OwnStore
from controlplane.adapters.metrics_scrape.page import Page
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.operations.alerts import Alert, AlertAction, AlertOptions
from controlplane.domain.operations.drift import DriftPolicy
from controlplane.domain.operations.watching import Pending, Trouble, ripened
from controlplane.domain.rollouts.rollout import RolloutState, StepRecord
from controlplane.domain.rollouts.rollout_policy import Facts, advance
from controlplane.services.operations.alerts import take_alerts
from tests.builders_serving import CHAT, NOW, a_rollout, a_service, a_spec, after
from tests.fakes.store import FakeStore
from tests.integration.controller.test_autoscaling import ENOUGH, IN_AFTER_S, WINDOW_S, scaling, sleeping
from tests.integration.controller.test_drift import traffic, watching

HOUR_S = 3600.0
STEPS = pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S], ids=["back", "forward"])


@STEPS
def test_replicas_that_the_load_needs_stay_and_follow_it_again_within_the_window(step_s: float) -> None:
    site = scaling()
    site.passes(WINDOW_S + 15, requests=5)
    assert site.service.stable_replicas == 3
    site.clock.step(step_s)
    site.restart()
    for _ in range(IN_AFTER_S):
        site.passes(1, requests=5)
        assert site.service.stable_replicas == 3
    site.passes(ENOUGH, requests=1)
    assert site.service.stable_replicas == 1


@STEPS
def test_a_service_that_nobody_asks_goes_to_zero_after_its_time_and_not_after_the_clock_s(step_s: float) -> None:
    site = scaling(min_replicas=0, zero_after_s=300)
    site.passes(WINDOW_S + 10, requests=1)
    site.clock.step(step_s)
    site.restart()
    site.passes(WINDOW_S + 10, requests=1)
    assert site.service.stable_replicas == 1
    site.passes(WINDOW_S + 300 + 30)
    assert site.service.stable_replicas == 0


@STEPS
def test_a_step_wakes_nobody_who_sleeps(step_s: float) -> None:
    site = sleeping()
    site.clock.step(step_s)
    site.restart()
    site.passes(30)
    assert not [each for each in site.engines() if each.state is not EngineState.DRAINING]


def test_after_a_step_back_drift_cools_for_its_time_from_then_on_and_no_longer() -> None:
    site = watching(DriftPolicy.TELL, cool_down_s=600)

    def found() -> int:
        return len([each for each in site.store.list_events(service=CHAT) if each.action == "drift.found"])

    while not found():
        traffic(site, 300, seconds=60)
    site.clock.step(-24 * HOUR_S)
    site.restart()
    traffic(site, 300, seconds=540)
    assert found() == 1
    traffic(site, 300, seconds=600)
    assert found() == 2


def test_after_a_step_back_an_alert_s_pause_lasts_its_time_and_no_longer() -> None:
    store = FakeStore()
    options = AlertOptions(actions={"FleetuneP99Jumped": AlertAction.SCALE_OUT}, pause_s=1800)
    store.save_service(a_service(spec=a_spec(alerts=options)), 0)

    def taken(key: str, at_s: float) -> str:
        alert = Alert(name="FleetuneP99Jumped", key=key, service=CHAT, firing=True, severity="ticket", summary="")
        [one] = take_alerts(store, [alert], actor="test", now=after(at_s))
        return one.reason

    taken("first", 0)
    assert "lie between two" in taken("second", -HOUR_S)
    assert "lie between two" in taken("third", -HOUR_S + 1700)
    assert "lie between two" not in taken("fourth", -HOUR_S + 1900)


def test_after_a_step_back_what_lasts_is_told_after_its_patience() -> None:
    trouble, before = Trouble("Slow", "", "page", 120, "it is slow"), {"Slow/": Pending(since=after(HOUR_S))}
    told = []
    for minute in range(4):
        now, ripe = ripened([trouble], before, NOW + timedelta(minutes=minute))
        before = dict(now)
        told += [minute for _ in ripe]
    assert told == [2]


def test_after_a_step_back_a_step_of_a_rollout_is_judged_anew_from_now() -> None:
    ahead = StepRecord(index=0, weight_percent=5, started_at=after(HOUR_S))
    rollout = a_rollout(state=RolloutState.PROGRESSING, steps=(ahead,))
    [step] = advance(rollout, Facts(canary_ready=2, canary_present=2), NOW).steps
    assert step.started_at == NOW
    begun = a_rollout(state=RolloutState.PROGRESSING, steps=(ahead.evolve(started_at=NOW),))
    assert advance(begun, Facts(canary_ready=2, canary_present=2), after(5)) == begun


def test_after_a_step_back_no_counter_seems_to_be_reset(tmp_path: Path) -> None:
    samples, own = SampleStore(tmp_path / "metrics.db"), OwnStore(tmp_path / "metrics.db")
    for at, count in ((after(HOUR_S), 900.0), (after(HOUR_S + 15), 950.0), (NOW, 1000.0), (after(15), 1010.0)):
        samples.keep([("m", "e-1", Page(preemptions=count))], at=at)
        own.keep({"gw-1": {("fleetune_gateway_requests_total", ()): count}}, at=at)
    until = after(2 * HOUR_S)
    kept = samples.between("m", NOW - timedelta(hours=1), until)
    [series] = own.series("fleetune_gateway_requests_total", since=NOW - timedelta(hours=1), until=until, step_s=15)
    assert [each.page.preemptions for each in kept] == [point.value for point in series.points] == [1000.0, 1010.0]
