"""What gateways and the control plane tell is kept for a day, bounded, and read back with its gaps and resets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.adapters.metrics_scrape.own import MOST_SERIES, MOST_SOURCES, Key, OwnScraper, OwnStore, numbers_of
from controlplane.adapters.metrics_scrape.samples import KEPT
from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.own_metrics import OwnPoint, is_counter, per_second
from tests.builders_serving import NOW, after
from tests.fakes.fleet import FakeClock

REQUESTS = "fleetune_gateway_requests_total"
PAGE = """# TYPE fleetune_gateway_requests_total counter
fleetune_gateway_requests_total{{service="chat",revision="r1",status="200"}} {ok}
fleetune_gateway_requests_created{{service="chat"}} 1.7e9
fleetune_gateway_weight_percent{{service="chat",revision="r1"}} NaN
process_cpu_seconds_total 12
"""


def page(ok: float) -> str:
    return PAGE.format(ok=ok)


def looked(path: Path, pages: Mapping[str, str], clock: FakeClock) -> OwnStore:
    store = OwnStore(path / "metrics.db")
    OwnScraper(pages=lambda: pages, store=store, clock=clock).run()
    return store


def test_our_own_finite_numbers_are_read_and_nothing_else() -> None:
    assert numbers_of(page(7)) == {(REQUESTS, (("revision", "r1"), ("service", "chat"), ("status", "200"))): 7.0}


def test_a_source_that_does_not_answer_or_tells_no_page_leaves_a_gap(tmp_path: Path) -> None:
    clock = FakeClock()
    for look, ok in enumerate((10, None, 40)):
        pages = {"gw-2": page(look)} | ({} if ok is None else {"gw-1": page(ok)})
        store = looked(tmp_path, pages | {"odd": "<html>"}, clock)
        clock.go_on(60)
    now = clock()
    found = store.series(REQUESTS, since=now - timedelta(minutes=5), until=now, step_s=15)
    assert [each.source for each in found] == ["gw-1", "gw-2"]
    assert [point.value for point in found[0].points] == [10, 40]
    assert found[0].labels == {"service": "chat", "revision": "r1", "status": "200"}
    assert [point.value for point in found[1].points] == [0, 1, 2]
    assert store.names(since=now - timedelta(minutes=5)) == [REQUESTS]
    assert not store.names(since=now)
    assert not store.series("fleetune_other", since=now - timedelta(minutes=5), until=now, step_s=15)


def test_it_is_looked_at_once_a_minute_and_at_once_after_the_clock_went_back(tmp_path: Path) -> None:
    clock, asked = FakeClock(), 0

    def pages() -> Mapping[str, str]:
        nonlocal asked
        asked += 1
        return {}

    scraper = OwnScraper(pages=pages, store=OwnStore(tmp_path / "metrics.db"), clock=clock)
    for _ in range(9):  # two minutes
        scraper.run()
        clock.go_on(15)
    assert asked == 3
    clock.go_on(-3600)
    scraper.run()
    assert asked == 4


def test_of_each_step_the_last_word_counts(tmp_path: Path) -> None:
    store = OwnStore(tmp_path / "metrics.db")
    for second in range(0, 240, 15):
        store.keep({"gw-1": {(REQUESTS, ()): float(second)}}, at=after(second))
    [found] = store.series(REQUESTS, since=NOW, until=after(240), step_s=60)
    assert [point.value for point in found.points] == [60, 120, 180, 225]


def test_a_day_is_kept_and_series_that_nobody_tells_any_more_are_forgotten(tmp_path: Path) -> None:
    store = OwnStore(tmp_path / "metrics.db")
    store.keep({"gw-1": {("fleetune_old", ()): 1.0}}, at=NOW)
    store.keep({"gw-1": {("fleetune_new", ()): 1.0}}, at=NOW + KEPT)
    assert store.names(since=NOW - KEPT) == ["fleetune_new", "fleetune_old"]
    store.keep({"gw-1": {("fleetune_new", ()): 2.0}}, at=NOW + KEPT + timedelta(seconds=15))
    assert store.names(since=NOW - KEPT) == ["fleetune_new"]


def test_sources_and_series_are_bounded(tmp_path: Path) -> None:
    store = OwnStore(tmp_path / "metrics.db")
    many: dict[Key, float] = {(f"fleetune_{number:05}", ()): 1.0 for number in range(MOST_SERIES + 5)}
    store.keep({f"gw-{number:02}": many for number in range(MOST_SOURCES + 3)}, at=NOW)
    before = NOW - timedelta(seconds=1)
    assert len(store.names(since=before)) == MOST_SERIES
    assert len(store.series("fleetune_00000", since=before, until=NOW, step_s=15)) == MOST_SOURCES


def test_a_file_that_is_no_store_is_said_and_one_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = OwnStore(tmp_path / "metrics.db")
    assert not store.names(since=NOW)
    assert not store.series(REQUESTS, since=NOW, until=after(60), step_s=15)
    (tmp_path / "metrics.db").write_text("no database" * 100)
    with pytest.raises(Unavailable, match=r"metrics\.db"):
        store.names(since=NOW)


def test_what_only_grows_is_told_per_second_and_begins_anew_with_its_process() -> None:
    points = [OwnPoint(after(at), value) for at, value in ((0, 100.0), (10, 130.0), (20, 15.0), (20, 15.0))]
    assert [point.value for point in per_second(points)] == [3.0, 1.5]
    assert [is_counter(each) for each in (REQUESTS, "fleetune_gateway_ttft_seconds_bucket", "fleetune_gpus_free")] == [
        True,
        True,
        False,
    ]
