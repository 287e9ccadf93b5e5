"""What every RecordSource does, on the fake and on the gateways' spool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controlplane.adapters.gateway.record_feed import SpooledFeed
from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.adapters.gateway.replay_records import ReplayRecords
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import Position, RecordFeed, RecordSource
from tests.fakes.record_source import FakeRecordSource

START = datetime(2026, 3, 1, 10, 59, 0, tzinfo=UTC)
CHAT = ServiceName("chat")


def record(
    at_s: float,
    *,
    record_id: str = "",
    service: str = "chat",
    revision: str = "rev-a",
    gateway: str = "gw-1",
    e2e_ms: float = 100.0,
) -> GatewayRecord:
    """Build the record of a request that arrived `at_s` after START."""
    return GatewayRecord(
        id=record_id or f"{gateway}-{at_s}",
        at=START + timedelta(seconds=at_s),
        gateway=gateway,
        service=service,
        model="llama",
        revision=RevisionId(revision),
        engine_id="e1",
        path="/v1/chat/completions",
        stream=True,
        status=200,
        e2e_ms=e2e_ms,
    )


@dataclass
class Setup:
    source: RecordSource
    feed: RecordFeed
    add: Callable[[GatewayRecord], None]
    break_it: Callable[[], None]


def spooled(data_dir: Path, *, window: int = 1000, most_bytes: int = 1 << 20) -> Setup:
    def add(item: GatewayRecord) -> None:
        finished = item.at + timedelta(milliseconds=item.e2e_ms or 0)
        path = records_dir(data_dir) / records_name(item.gateway, finished)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(item.model_dump_json().encode() + b"\n")

    def break_it() -> None:
        (records_dir(data_dir) / "gw-1-20260301T10.jsonl").mkdir(parents=True)

    source = SpooledRecords(data_dir, window=window)
    return Setup(source, SpooledFeed(data_dir, most_bytes=most_bytes), add, break_it)


def faked() -> Setup:
    fake = FakeRecordSource()

    def break_it() -> None:
        fake.broken = True

    return Setup(fake, fake, fake.add, break_it)


@pytest.fixture(params=["fake", "spool", "spool that keeps little"])
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Setup:
    if request.param == "fake":
        return faked()
    return spooled(tmp_path) if request.param == "spool" else spooled(tmp_path, window=2, most_bytes=500)


def ids(setup: Setup, since_s: float = 0, revision: str | None = None) -> list[str]:
    since = START + timedelta(seconds=since_s)
    wanted = RevisionId(revision) if revision else None
    return [found.id for found in setup.source.read(CHAT, since=since, revision=wanted)]


def test_nothing_recorded_is_nothing_read(setup: Setup) -> None:
    assert ids(setup) == []


def test_records_come_oldest_arrival_first_whatever_finished_first(setup: Setup) -> None:
    setup.add(record(2, record_id="second"))
    setup.add(record(1, record_id="first", e2e_ms=5_000))
    setup.add(record(3, record_id="third"))
    assert ids(setup) == ["first", "second", "third"]


def test_only_what_arrived_since_is_read_the_instant_itself_included(setup: Setup) -> None:
    for at_s in (1, 2, 3):
        setup.add(record(at_s, record_id=str(at_s)))
    assert ids(setup, since_s=2) == ["2", "3"]


def test_services_and_revisions_are_kept_apart(setup: Setup) -> None:
    setup.add(record(1, record_id="a"))
    setup.add(record(2, record_id="b", revision="rev-b"))
    setup.add(record(3, record_id="other", service="code"))
    assert ids(setup) == ["a", "b"]
    assert ids(setup, revision="rev-b") == ["b"]


def test_reading_again_and_again_finds_each_record_once(setup: Setup) -> None:
    for number in range(10):
        setup.add(record(number, record_id=str(number)))
        assert ids(setup) == [str(n) for n in range(number + 1)]
        assert ids(setup, since_s=number) == [str(number)]


def test_a_late_record_of_an_early_arrival_is_found(setup: Setup) -> None:
    setup.add(record(5, record_id="early"))
    assert ids(setup) == ["early"]
    setup.add(record(1, record_id="late", e2e_ms=90_000))
    assert ids(setup) == ["late", "early"]


def test_a_question_further_back_than_before_is_answered(setup: Setup) -> None:
    setup.add(record(0, record_id="early"))
    setup.add(record(7200, record_id="two hours later"))
    assert ids(setup, since_s=7100) == ["two hours later"]
    assert ids(setup) == ["early", "two hours later"]


def test_several_gateways_and_hours_are_one_sequence(setup: Setup) -> None:
    for number in range(6):
        setup.add(record(number * 1800, record_id=str(number), gateway=f"gw-{number % 2}"))
    assert ids(setup) == [str(number) for number in range(6)]


def test_what_cannot_be_read_is_unavailable(setup: Setup) -> None:
    setup.break_it()
    with pytest.raises(Unavailable):
        ids(setup)
    with pytest.raises(Unavailable):
        follow(setup, {})


def follow(
    setup: Setup, position: Position, since_s: float = 0, until: Position | None = None
) -> tuple[list[str], Position]:
    found = list[str]()
    since = START + timedelta(seconds=since_s)
    for news in setup.feed.follow(CHAT, since=since, position=position, until=until):
        found += [each.id for each in news.records]
        position = news.position
    return found, position


def test_a_feed_gives_every_record_once(setup: Setup) -> None:
    position: Position = {}
    for number in range(10):
        setup.add(record(number, record_id=str(number)))
        found, position = follow(setup, position)
        assert found == [str(number)]
    assert follow(setup, position)[0] == []


def test_a_feed_from_the_start_gives_everything_again_in_the_same_order(setup: Setup) -> None:
    position: Position = {}
    given: list[str] = []
    for number in (3, 1, 2):
        setup.add(record(number, record_id=str(number)))
        found, position = follow(setup, position)
        given += found
    assert follow(setup, {})[0] == given == ["3", "1", "2"]


def test_several_readers_of_a_feed_each_get_everything_once_whenever_they_look(setup: Setup) -> None:
    positions: dict[int, Position] = {1: {}, 2: {}, 3: {}}
    given: dict[int, list[str]] = {every: [] for every in positions}
    for number in range(24):
        setup.add(record(number * 300, record_id=str(number), gateway=f"gw-{number % 2}"))
        for every, position in positions.items():
            if number % every == 0:
                found, positions[every] = follow(setup, position)
                given[every] += found
    for every, position in positions.items():
        assert sorted([*given[every], *follow(setup, position)[0]], key=int) == [str(number) for number in range(24)]


def test_a_feed_tells_the_blocks_that_prompts_share(setup: Setup) -> None:
    setup.add(record(1).evolve(prefix_blocks=(7, 8)))
    (news,) = setup.feed.follow(CHAT, since=START, position={})
    assert [each.prefix_blocks for each in news.records] == [(7, 8)]


def test_a_feed_has_only_what_arrived_since_and_of_its_service(setup: Setup) -> None:
    setup.add(record(1, record_id="before"))
    setup.add(record(5, record_id="other", service="code"))
    setup.add(record(6, record_id="after"))
    assert follow(setup, {}, since_s=2)[0] == ["after"]


def test_what_we_sent_ourselves_is_in_the_feed_but_no_user_s_request(setup: Setup) -> None:
    setup.add(record(1, record_id="user"))
    setup.add(record(2, record_id="ours", gateway="replay").evolve(replayed=True))
    assert ids(setup) == ["user"]
    assert sorted(follow(setup, {})[0]) == ["ours", "user"]


def test_a_replayed_record_after_a_line_that_a_kill_left_open_is_read(tmp_path: Path) -> None:
    replays, at = ReplayRecords(tmp_path, clock=lambda: START), START - timedelta(seconds=1)
    replays.keep(CHAT, [record(0, record_id="first")])
    (file,) = records_dir(tmp_path).iterdir()
    file.write_bytes(file.read_bytes() + b'{"id": "cut')
    replays.keep(CHAT, [record(1, record_id="second")])
    given = SpooledFeed(tmp_path).follow(CHAT, since=at, position={})
    assert [each.id for news in given for each in news.records] == ["first", "second"]


def test_a_place_is_before_what_finished_from_a_moment_on_and_stays_where_it_is(setup: Setup) -> None:
    for number in range(40):  # over the hour, the last of an hour before it and the first of the next
        setup.add(record(number * 3, record_id=str(number), gateway="gw-1"))
    since = START + timedelta(seconds=60.1)
    place = setup.feed.place(since=since)
    assert follow(setup, place)[0] == [str(number) for number in range(20, 40)]
    setup.add(record(120, record_id="40", gateway="gw-1"))
    assert setup.feed.place(since=since) == place


def test_a_place_further_back_is_so_far_back_or_so_many_bytes(setup: Setup) -> None:
    for number in range(10):
        setup.add(record(number, record_id=str(number)))
    since, back = START + timedelta(seconds=8), timedelta(seconds=4)
    here, there = setup.feed.place(since=since), setup.feed.place(since=since, back=back, most_bytes=1 << 20)
    assert follow(setup, there, until=here)[0] == ["4", "5", "6", "7"]
    size = len(record(0, record_id="0").model_dump_json())
    near = setup.feed.place(since=since, back=back, most_bytes=2 * size + 20)
    assert follow(setup, near, until=here)[0] == ["6", "7"]
    assert follow(setup, here)[0] == ["8", "9"]


def test_until_a_place_leaves_out_who_was_not_there(setup: Setup) -> None:
    here = setup.feed.place(since=START)
    setup.add(record(1, record_id="new", gateway="gw-2"))
    assert follow(setup, {}, until=here)[0] == []
    assert follow(setup, here)[0] == ["new"]
