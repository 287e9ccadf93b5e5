"""What load tests, the disk and certificates say is told without a Prometheus, and what nobody knows is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controlplane.domain.operations.load_news import LoadNews
from controlplane.domain.operations.space import Space
from controlplane.domain.operations.watching import Facts, certificate_troubles, store_troubles, troubles
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.report import Validity
from controlplane.domain.rollouts.rollout import RolloutState, StepRecord
from controlplane.domain.rollouts.rollout_options import StepSpec
from controlplane.services.operations.load_news import load_news
from tests.builders_reports import a_load_report
from tests.builders_serving import CHAT, NOW, a_rollout, a_spec, some_options
from tests.fakes.store import FakeStore
from tests.unit.operations.test_watching import Watched, a_watched, counted


def test_a_replay_that_regressed_and_a_generator_that_was_behind_are_told_and_what_is_not_known_is_not() -> None:
    def told(**news: Any) -> list[tuple[str, str]]:
        facts = Facts(a_spec(), counted(), load=LoadNews(**news))
        return [(each.alert, each.about) for each in troubles(facts, NOW)]

    assert told(replays={"nightly": True, "hourly": False}) == [("FleetuneReplayRegressed", "nightly")]
    assert told(behind="requests left late", tested=True) == [("FleetuneGeneratorBehind", "")]
    assert not told() + told(replays={"nightly": False}, lag_s=0.5, tested=True)


def of_rollouts(watched: Watched) -> list[str]:
    return [each for each in watched.events("alert.fired") if "Rollout" in each]


def test_a_paused_rollout_that_nobody_looks_at_is_told_once_with_why_and_a_halted_one_as_such() -> None:
    watched = a_watched()
    store = watched.site.store
    step = StepRecord(index=0, weight_percent=5, started_at=watched.site.clock())
    paused = a_rollout(state=RolloutState.PAUSED, steps=(step,), reason="load not proven", created_at=step.started_at)
    version = store.save_rollout(paused, 0)
    watched.minutes(30)
    assert not of_rollouts(watched)
    watched.minutes(10)
    assert of_rollouts(watched) == ["alert/FleetuneRolloutStuck"]
    (said,) = [each.reason for each in store.list_events() if each.subject == "alert/FleetuneRolloutStuck"]
    assert "is paused" in said
    assert "load not proven" in said
    store.save_rollout(paused.evolve(state=RolloutState.HALTED), version)
    watched.minutes(1)
    assert sorted(of_rollouts(watched)) == ["alert/FleetuneRolloutHalted", "alert/FleetuneRolloutStuck"]


def test_a_step_without_traffic_that_may_take_an_hour_is_told_after_it_and_one_that_moves_on_is_not() -> None:
    watched = a_watched()
    options = some_options().evolve(steps=(StepSpec(weight_percent=50, max_s=3600), StepSpec(weight_percent=100)))
    began = watched.site.clock()
    step = StepRecord(index=0, weight_percent=50, started_at=began)
    judging = a_rollout(state=RolloutState.PROGRESSING, options=options, steps=(step,), created_at=began)
    version = watched.site.store.save_rollout(judging, 0)
    watched.minutes(55)
    assert not of_rollouts(watched)
    moved = judging.evolve(steps=(step.evolve(finished_at=watched.site.clock()),))
    version = watched.site.store.save_rollout(moved, version)
    watched.minutes(55)
    assert not of_rollouts(watched)
    watched.minutes(10)
    assert of_rollouts(watched) == ["alert/FleetuneRolloutStuck"]


def test_replicas_that_never_come_are_no_progress_either_and_what_is_over_is_not_stuck() -> None:
    pending = a_rollout(created_at=NOW)
    assert pending.waits_for_replicas
    assert pending.stays_s(NOW + timedelta(minutes=45)) == 45 * 60
    assert pending.patience_s == 1800
    for state in (RolloutState.HALTED, RolloutState.PROMOTED, RolloutState.ABORTED):
        assert pending.evolve(state=state).stays_s(NOW + timedelta(days=1)) is None


def test_a_disk_is_told_when_a_tenth_of_it_and_twenty_gib_are_not_free() -> None:
    def told(free_gib: float, size_gib: float) -> list[str]:
        space = Space(size=int(size_gib * 2**30), free=int(free_gib * 2**30))
        return [each.alert for each in store_troubles(space)]

    assert told(5, 100) == told(0, 1) == ["FleetuneStoreFull"]
    assert not told(5, 40) + told(50, 1000) + told(10, 100)


def test_a_certificate_is_told_a_fortnight_before_it_ends_and_after() -> None:
    days = {"gw-1": {"clients": 13, "engines": 15}, "gw-2": {"control-plane": -1}}
    ends = {name: {to: NOW + timedelta(days=left) for to, left in each.items()} for name, each in days.items()}
    told = certificate_troubles(ends, NOW)
    assert [(each.alert, each.about) for each in told] == [
        ("FleetuneCertificateEnds", "gw-1/clients"),
        ("FleetuneCertificateEnds", "gw-2/control-plane"),
    ]


def test_news_of_load_tests_are_of_the_newest_that_count_and_end_with_their_age() -> None:
    store = FakeStore()
    for number, regressed, changes in (
        (1, True, {"time_lapse": 10.0}),
        (2, False, {"validity": Validity.INVALID, "invalid_reason": "requests left late", "time_lapse": 10.0}),
    ):
        point = ReplayPoint(service=CHAT, schedule="nightly", number=number, regressed=regressed)
        store.add_load_report(f"replay.{number}", CHAT, a_load_report(**changes), NOW, replay=point)
    told = load_news(store, CHAT, NOW + timedelta(hours=20))
    assert told == LoadNews({"nightly": True}, 0.02405, "requests left late", tested=True)
    assert load_news(store, CHAT, NOW + timedelta(days=2)) == LoadNews({"nightly": True})
    assert load_news(store, CHAT, NOW + timedelta(days=9)) == LoadNews()


def test_a_full_disk_and_a_certificate_that_ends_are_told_once_of_the_installation() -> None:
    watched = a_watched()
    watched.site.router.ends = {"gw-1": {"clients": watched.site.clock() + timedelta(days=3)}}
    watched.space = Space(size=100 * 2**30, free=2**30)
    watched.minutes(4)
    assert not watched.events("alert.fired")
    watched.minutes(8)
    assert sorted(watched.events("alert.fired")) == ["alert/FleetuneCertificateEnds", "alert/FleetuneStoreFull"]


def test_a_disk_nobody_can_tell_of_is_no_alert() -> None:
    watched = a_watched()
    watched.minutes(8)
    assert not watched.events("alert.fired")
