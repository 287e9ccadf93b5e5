"""What load tests, the disk and certificates say is told without a Prometheus, and what nobody knows is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controlplane.domain.operations.load_news import LoadNews
from controlplane.domain.operations.space import Space
from controlplane.domain.operations.watching import Facts, certificate_troubles, store_troubles, troubles
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.report import Validity
from controlplane.services.operations.load_news import load_news
from tests.builders_reports import a_load_report
from tests.builders_serving import CHAT, NOW, a_spec
from tests.fakes.store import FakeStore
from tests.unit.operations.test_watching import a_watched, counted


def test_a_replay_that_regressed_and_a_generator_that_was_behind_are_told_and_what_is_not_known_is_not() -> None:
    def told(**news: Any) -> list[tuple[str, str]]:
        facts = Facts(a_spec(), counted(), load=LoadNews(**news))
        return [(each.alert, each.about) for each in troubles(facts, NOW)]

    assert told(replays={"nightly": True, "hourly": False}) == [("FleetuneReplayRegressed", "nightly")]
    assert told(behind="requests left late", tested=True) == [("FleetuneGeneratorBehind", "")]
    assert not told() + told(replays={"nightly": False}, lag_s=0.5, tested=True)


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
