"""What many follow is read once, and what is kept of it decides what a look costs, never what it finds."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.adapters.gateway import hourly_files, record_feed
from controlplane.adapters.gateway.hourly_files import PIECE_BYTES
from controlplane.adapters.gateway.record_feed import KEPT_S, SpooledFeed
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import Position
from tests.contract.test_record_source import record
from tests.fakes.fleet import FakeClock

START = datetime(2026, 3, 1, 10, 59, 0, tzinfo=UTC)
CHAT = ServiceName("chat")
NAME = records_name("gw-1", START)


class Files:
    """The files that gateways write; `parsed` is how many lines a feed on them has made values of."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.folder, self.parsed = folder, 0
        records_dir(folder).mkdir(parents=True, exist_ok=True)
        if monkeypatch is not None:
            monkeypatch.setattr(record_feed, "parsed", self._counting)

    def _counting(self, lines: bytes, *args: object, **kwargs: object) -> object:
        self.parsed += lines.count(b"\n")
        return _parsed(lines, *args, **kwargs)  # type: ignore[arg-type]

    def write(self, *numbers: int, name: str = NAME, torn: bytes = b"") -> None:
        lines = (record(0, record_id=str(number)).model_dump_json().encode() + b"\n" for number in numbers)
        self.append(b"".join(lines) + torn, name=name)

    def append(self, text: bytes, *, name: str = NAME) -> None:
        with (records_dir(self.folder) / name).open("ab") as file:
            file.write(text)


_parsed = hourly_files.parsed


class Reader:
    """One that follows, from the beginning."""

    def __init__(self, feed: SpooledFeed) -> None:
        self.feed, self.given = feed, list[str]()
        self.position: Position = {}

    def look(self) -> list[str]:
        new = []
        for news in self.feed.follow(CHAT, since=START, position=self.position):
            new += [each.id for each in news.records]
            self.position = news.position
        self.given += new
        return new


def test_what_is_new_is_read_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, feed = Files(tmp_path, monkeypatch), SpooledFeed(tmp_path)
    files.write(1)
    readers = [Reader(feed) for _ in range(5)]
    assert [each.look() for each in readers] == [["1"]] * 5
    files.parsed = 0
    files.write(2, 3)
    assert [each.look() for each in readers] == [["2", "3"]] * 5
    assert files.parsed == 2


def test_who_looks_seldom_is_given_what_others_had_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, feed = Files(tmp_path, monkeypatch), SpooledFeed(tmp_path)
    often, seldom = Reader(feed), Reader(feed)
    files.write(0)
    assert often.look() == seldom.look() == ["0"]
    files.parsed = 0
    for number in range(1, 20):
        files.write(number)
        often.look()
    assert seldom.look() == [str(number) for number in range(1, 20)]
    assert files.parsed == 19


def test_what_is_kept_ends_by_age_and_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, clock = Files(tmp_path, monkeypatch), FakeClock()
    line = len(record(0, record_id="1").model_dump_json()) + 1
    feed = SpooledFeed(tmp_path, most_bytes=3 * line, monotonic=clock.monotonic)
    often, seldom = Reader(feed), Reader(feed)
    files.write(0)
    often.look(), seldom.look()
    for number in (1, 2, 3, 4, 5):
        files.write(number)
        often.look()
    files.parsed = 0
    assert seldom.look() == ["1", "2", "3", "4", "5"]
    assert files.parsed == 2  # the oldest two were forgotten
    files.write(6)
    often.look()
    clock.go_on(KEPT_S + 1)
    often.look()
    files.parsed = 0
    assert seldom.look() == ["6"]
    assert files.parsed == 1


def test_a_new_controller_reads_what_one_before_it_read(tmp_path: Path) -> None:
    files = Files(tmp_path)
    before = Reader(SpooledFeed(tmp_path))
    for number in range(4):
        files.write(number)
        before.look()
    beside = Reader(SpooledFeed(tmp_path))  # two for a moment, while they hand over
    files.write(4)
    assert before.look() == ["4"]
    assert beside.look() == before.given


def test_a_last_line_that_a_kill_left_open_costs_only_itself(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write(1, torn=b'{"id": "torn')
    reader, late = Reader(feed := SpooledFeed(tmp_path)), Reader(feed)
    assert reader.look() == ["1"]
    files.append(b"\n")  # the gateway that was started again ends it
    files.write(2)
    assert reader.look() == ["2"]
    assert late.look() == ["1", "2"]


def test_a_file_that_ends_its_retention_and_one_cut_by_hand_are_no_trouble(tmp_path: Path) -> None:
    files, feed = Files(tmp_path), SpooledFeed(tmp_path)
    later = records_name("gw-1", START + timedelta(hours=1))
    reader = Reader(feed)
    files.write(1, 2)
    reader.look()
    files.write(3, name=later)
    reader.look()
    (records_dir(tmp_path) / NAME).unlink()
    files.write(4, name=later)
    assert reader.look() == ["4"]
    (records_dir(tmp_path) / later).write_bytes(b"")
    files.write(5, name=later)
    assert reader.look() == ["5"]


def test_a_line_longer_than_a_piece_is_whole(tmp_path: Path) -> None:
    files, reader = Files(tmp_path), Reader(SpooledFeed(tmp_path))
    long = record(0, record_id="long").evolve(model="m" * (PIECE_BYTES + 10))
    files.write(1)
    files.append(long.model_dump_json().encode() + b"\n")
    assert reader.look() == ["1", "long"]
    assert Reader(SpooledFeed(tmp_path)).look() == ["1", "long"]


def test_what_fails_on_the_way_goes_on_from_there(tmp_path: Path) -> None:
    files, reader = Files(tmp_path), Reader(SpooledFeed(tmp_path))
    files.write(1)
    broken = records_dir(tmp_path) / records_name("gw-2", START)
    broken.mkdir()
    (broken / "something").touch()
    with pytest.raises(Unavailable, match="records cannot be read"):
        reader.look()
    (broken / "something").unlink()
    broken.rmdir()
    files.write(2, name=broken.name)
    assert sorted({*reader.given, *reader.look()}) == ["1", "2"]
    assert reader.look() == []


@given(
    acts=st.lists(st.sampled_from(["write", "torn", "end", "often", "seldom", "late", "forget", "rotate"]), max_size=40)
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_everybody_gets_everything_once(
    acts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, clock = tmp_path_factory.mktemp("feed"), FakeClock()
    files, feed = Files(folder), SpooledFeed(folder, most_bytes=900, monotonic=clock.monotonic)
    readers, written, name = {each: Reader(feed) for each in ("often", "seldom", "late")}, list[str](), NAME
    for act in [*acts, "end", "often", "seldom", "late"]:
        match act:
            case "write":
                files.write(len(written), name=name)
                written.append(str(len(written)))
            case "torn":
                files.append(b'{"torn', name=name)
            case "end":
                files.append(b"\n", name=name)
            case "forget":
                clock.go_on(KEPT_S + 1)
            case "rotate":
                files.append(b"\n", name=name)
                name = records_name("gw-1", START + timedelta(hours=len(written)))
            case reader:
                readers[reader].look()
    whole = readers["often"].given
    assert len(whole) == len(set(whole))
    assert whole == readers["seldom"].given == readers["late"].given


def test_threads_follow_at_once_and_miss_nothing(tmp_path: Path) -> None:
    files, feed = Files(tmp_path), SpooledFeed(tmp_path, most_bytes=2000)
    readers = [Reader(feed) for _ in range(4)]
    done = threading.Event()

    def follow(reader: Reader) -> None:
        while not done.is_set():
            reader.look()
        reader.look()

    threads = [threading.Thread(target=follow, args=[each]) for each in readers]
    for thread in threads:
        thread.start()
    for number in range(200):
        files.write(number)
    done.set()
    for thread in threads:
        thread.join()
    assert [each.given for each in readers] == [[str(number) for number in range(200)]] * 4
