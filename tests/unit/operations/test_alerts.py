"""An alert is told once and leads to what was declared: not twice, not too often, not where the state forbids it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.operations.alerts import (
    REMEMBERED,
    Acted,
    Alert,
    AlertAction,
    AlertOptions,
    one_line,
    reaction,
    remembered,
)
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.services.operations.alerts import Taken, alerts_that_last, take_alerts
from tests.builders_serving import CHAT, NOW
from tests.integration.controller.site import Site

OUT = AlertOptions(actions={"QueueGrows": AlertAction.SCALE_OUT}, pause_s=600, most_a_day=3)


def an_alert(name: str = "QueueGrows", key: str = "k1", **changes: object) -> Alert:
    return Alert(name=name, key=key, service=CHAT, firing=True, summary="too much").evolve(**changes)


def after_min(minutes: float) -> timedelta:
    return timedelta(minutes=minutes)


def test_an_alert_nobody_declared_anything_for_is_told() -> None:
    found = reaction(OUT, an_alert("SomethingElse"), (), NOW)
    assert found is not None
    assert (found.action, found.acts) == (AlertAction.TELL, False)


def test_what_was_told_or_is_over_needs_no_answer() -> None:
    told = Acted(at=NOW, key="k1", action=AlertAction.TELL)
    assert reaction(OUT, an_alert(), [told], NOW) is None
    assert reaction(OUT, an_alert(firing=False), (), NOW) is None


def test_between_two_of_the_same_action_lies_a_pause() -> None:
    done = Acted(at=NOW, key="k0", action=AlertAction.SCALE_OUT)
    soon, later = (reaction(OUT, an_alert(), [done], NOW + after_min(each)) for each in (9, 11))
    assert soon is not None
    assert later is not None
    assert (soon.acts, later.acts) == (False, True)
    assert "lie between two" in soon.reason


def test_a_dry_run_says_what_it_would_do() -> None:
    found = reaction(OUT.evolve(dry_run=True), an_alert(), (), NOW)
    assert found is not None
    assert (found.action, found.acts, found.reason) == (AlertAction.SCALE_OUT, False, "dry run")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.sampled_from(["QueueGrows", "Other"])), max_size=40))
def test_whatever_fires_no_day_has_more_actions_than_declared_and_none_comes_within_its_pause(
    firings: list[tuple[int, str]],
) -> None:
    options = AlertOptions(
        actions={"QueueGrows": AlertAction.SCALE_OUT, "Other": AlertAction.STUDY}, pause_s=600, most_a_day=3
    )
    past: tuple[Acted, ...] = ()
    now = NOW
    for number, (minutes, name) in enumerate(firings):
        now += after_min(minutes)
        found = reaction(options, an_alert(name, key=str(number)), past, now)
        assert found is not None
        action = found.action if found.acts else AlertAction.TELL
        past = remembered(past, Acted(at=now, key=str(number), action=action), now)
    acts = [each for each in past if each.action is not AlertAction.TELL]
    for each in acts:
        day = [other for other in acts if timedelta(0) <= each.at - other.at < timedelta(days=1)]
        assert len(day) <= 3
        same = [other.at for other in acts if other.action is each.action and other is not each]
        assert all(abs(each.at - at) >= after_min(10) for at in same)


def test_a_flood_of_alerts_makes_nobody_forget_what_was_done() -> None:
    past: tuple[Acted, ...] = (Acted(at=NOW, key="done", action=AlertAction.SCALE_OUT),)
    for number in range(REMEMBERED + 10):
        past = remembered(past, Acted(at=NOW, key=str(number), action=AlertAction.TELL), NOW)
    found = reaction(OUT, an_alert(key="new"), past, NOW + after_min(1))
    assert found is not None
    assert not found.acts, "the pause counts from what was done, however many were told since"
    assert len(past) == REMEMBERED + 1
    assert len(remembered(past, past[-1].evolve(at=NOW + timedelta(days=8)), NOW + timedelta(days=8))) == 1


def test_a_text_from_outside_is_one_short_line() -> None:
    assert one_line("a\nb\x1b[31m\tc" + 400 * "x").startswith("a b [31m c")
    assert len(one_line(400 * "x")) == 300


def serving(**options: object) -> Site:
    site = Site()
    site.serving(alerts=AlertOptions(**options), autoscale=AutoscaleOptions(enabled=True, capacity_rps=2.0))
    return site


def take(site: Site, *alerts: Alert) -> tuple[Taken, ...]:
    return take_alerts(site.store, alerts, actor="alertmanager", now=site.clock())


def test_one_replica_more_comes_and_stays_for_the_autoscalers_window() -> None:
    site = serving(actions={"QueueGrows": "scale_out"})
    site.passes(650, requests=1)
    [taken] = take(site, an_alert())
    assert taken.done
    assert site.service.stable_replicas == 2
    assert take(site, an_alert())[0].reason == "told before, or over"
    site.passes(120, requests=1)
    assert site.service.stable_replicas == 2
    site.passes(600, requests=1)
    assert site.service.stable_replicas == 1


def test_a_study_waits_and_a_rollout_is_given_up() -> None:
    site = serving(actions={"P99Jumped": "study", "Burns": "abort_rollout"})
    site.roll_out(replicas=1)
    site.passes(5)
    studied, given_up = take(site, an_alert("P99Jumped", "a"), an_alert("Burns", "b"))
    assert studied.done
    assert [study.created_by for study, _ in site.store.list_studies(CHAT)] == ["alert/P99Jumped"]
    assert given_up.done
    assert site.rollout.state is RolloutState.ABORTING


def test_what_the_state_does_not_allow_is_said_and_not_tried_again() -> None:
    site = serving(actions={"Burns": "abort_rollout"})
    [taken] = take(site, an_alert("Burns"))
    assert (taken.done, "no rollout" in taken.reason) == (False, True)
    assert [each.action for each in site.store.list_events(subject="alert/Burns")] == [
        "alert.not_acted",
        "alert.fired",
    ]
    assert take(site, an_alert("Burns"))[0].action is None


def test_no_replica_comes_beyond_the_ceilings() -> None:
    site = Site()
    options = AlertOptions(actions={"QueueGrows": AlertAction.SCALE_OUT})
    site.serving(alerts=options, autoscale=AutoscaleOptions(max_replicas=1))
    [taken] = take(site, an_alert())
    assert "max_replicas" in taken.reason
    assert site.service.stable_replicas == 1


@pytest.mark.parametrize("service", [None, "unknown"])
def test_an_alert_of_no_known_service_is_told_and_remembered(service: str | None) -> None:
    site = serving(actions={"QueueGrows": "scale_out"})
    first, second = (take(site, an_alert(service=service))[0] for _ in range(2))
    assert (first.action, second.action) == (AlertAction.TELL, None)
    assert site.service.stable_replicas == 1


def test_that_an_alert_is_over_is_told_once_and_to_whom_it_concerns() -> None:
    site = serving()
    take(site, an_alert(severity="page"))
    assert set(alerts_that_last(site.store, CHAT)) == {"QueueGrows"}
    site.clock.go_on(720)
    over = [take(site, an_alert(firing=False))[0].reason for _ in range(2)]
    assert over == ["over 12 min after it was told", "told before, or over"]
    (ended,) = [each for each in site.store.list_events() if each.action == "alert.ended"]
    assert (ended.subject, ended.details["severity"]) == ("alert/QueueGrows", "page")
    assert not alerts_that_last(site.store, CHAT)


def test_the_end_of_what_was_never_told_is_no_news() -> None:
    site = serving()
    take(site, an_alert(firing=False))
    assert not site.store.list_events(subject="alert/QueueGrows")


def test_of_several_of_one_name_the_last_end_counts() -> None:
    site = serving()
    take(site, an_alert(key="a"), an_alert(key="b"))
    take(site, an_alert(key="a", firing=False))
    assert set(alerts_that_last(site.store, CHAT)) == {"QueueGrows"}
