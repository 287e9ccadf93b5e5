"""That an alert is over is told, once it is known to be; and status says what lasts, for as long as it does."""

from __future__ import annotations

from datetime import timedelta

from controlplane.domain.operations.alerts import AlertOptions
from controlplane.domain.operations.space import Space
from controlplane.services.operations.health import installation_health
from tests.builders_serving import CHAT
from tests.unit.operations.test_watching import Watched, a_watched

GIB = 2**30


def change(watched: Watched, **alerts: object) -> None:
    service, version = watched.site.store.get_service(CHAT)
    spec = service.spec.evolve(alerts=AlertOptions.model_validate(alerts))
    watched.site.store.save_service(service.evolve(spec=spec), version)


def said(watched: Watched) -> str:
    site = watched.site
    found = installation_health(site.store, site.fleet, site.records, now=site.clock())
    return " ".join(each.text for each in (*found.findings, *found.services[0].findings))


def test_a_budget_alert_is_told_stands_in_status_for_as_long_as_it_lasts_and_its_end_is_told() -> None:
    watched = a_watched(usd_per_day=0.01)
    watched.minutes(16)
    assert watched.events("alert.fired") == ["alert/FleetuneBudgetExceeded"]
    watched.site.clock.go_on(2 * 3600)
    watched.minutes(1)
    assert "FleetuneBudgetExceeded" in said(watched), "it lasts, however long ago it was told"
    change(watched, usd_per_day=1e6)
    watched.minutes(1)
    assert watched.events("alert.ended") == ["alert/FleetuneBudgetExceeded"]
    assert "FleetuneBudgetExceeded" not in said(watched)


def test_for_want_of_numbers_no_alert_is_over() -> None:
    watched = a_watched()
    watched.minutes(4, waiting=20)
    assert watched.events("alert.fired") == ["alert/FleetuneQueueGrows"]
    watched.minutes(5)  # nothing is scraped any more: after a minute nobody knows
    assert not watched.events("alert.ended")
    watched.minutes(1, waiting=0)
    assert watched.events("alert.ended") == ["alert/FleetuneQueueGrows"]


def test_a_number_that_was_missing_for_a_moment_does_not_put_an_alert_off() -> None:
    watched = a_watched()
    watched.minutes(1.5, waiting=20)
    watched.minutes(1.5)
    watched.minutes(0.5, waiting=60)
    assert watched.events("alert.fired") == ["alert/FleetuneQueueGrows"]


def test_of_a_service_without_engines_nothing_lasts() -> None:
    watched = a_watched()
    watched.minutes(4, waiting=20)
    service, version = watched.site.store.get_service(CHAT)
    watched.site.store.save_service(service.evolve(stable_replicas=0, stopped=True), version)
    watched.site.passes(60)
    watched.minutes(2)
    assert watched.events("alert.ended") == ["alert/FleetuneQueueGrows"]


def test_after_a_crash_between_the_end_and_its_word_nothing_lasts() -> None:
    watched = a_watched(usd_per_day=0.01)
    watched.minutes(16)
    change(watched, usd_per_day=1e6)
    store, add = watched.site.store, watched.site.store.add_event
    store.add_event = _dies  # type: ignore[method-assign, assignment]
    try:
        watched.watcher.run()
    except RuntimeError:
        store.add_event = add  # type: ignore[method-assign]
    watched.restart()
    watched.minutes(1)
    assert "FleetuneBudgetExceeded" not in said(watched)


def _dies(_: object) -> None:
    raise RuntimeError("killed")


def test_a_full_disk_stands_in_status_too() -> None:
    watched = a_watched()
    watched.space = Space(free=GIB, size=100 * GIB)
    watched.minutes(6)
    assert "FleetuneStoreFull" in said(watched)
    watched.space = None
    watched.minutes(2)
    assert "FleetuneStoreFull" in said(watched), "nobody knows how full it is"
    watched.space = Space(free=90 * GIB, size=100 * GIB)
    watched.minutes(1)
    assert "FleetuneStoreFull" not in said(watched)


def test_a_silent_gateway_is_wrong_at_once_and_right_again_once_it_answers() -> None:
    watched = a_watched()
    watched.site.router.down = {"gw-1"}
    watched.minutes(0.25)
    assert "a gateway does not answer" in said(watched)
    assert not watched.events("alert.fired")
    watched.site.router.down = set()
    watched.minutes(0.25)
    assert "a gateway does not answer" not in said(watched)


def test_where_the_watch_is_switched_off_what_it_told_is_over() -> None:
    watched = a_watched(usd_per_day=0.01)
    watched.minutes(16)
    change(watched, usd_per_day=0.01, built_in=False)
    watched.minutes(1)
    assert watched.events("alert.ended") == ["alert/FleetuneBudgetExceeded"]


def test_an_end_is_found_after_the_clock_was_set_back() -> None:
    watched = a_watched(usd_per_day=0.01)
    watched.minutes(16)
    watched.site.clock.go_on(-3600)
    watched.restart()
    watched.minutes(1)
    change(watched, usd_per_day=1e6)
    watched.minutes(1)
    assert watched.events("alert.ended") == ["alert/FleetuneBudgetExceeded"]
    (ended,) = [each for each in watched.site.store.list_events() if each.action == "alert.ended"]
    assert ended.at < watched.site.clock() + timedelta(seconds=1)
    assert "-" not in ended.reason, "it never was over before it was told"
