"""What every RecentRecords does, on the fake and on the gateways' spool; and how the spool keeps to its bytes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.adapters.gateway.recent_records import RecentSpool
from controlplane.adapters.gateway.replay_records import ReplayRecords
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import RecentRecords
from tests.contract.test_record_source import CHAT, START, Setup, faked, record, spooled
from tests.fakes.record_source import FakeRecordSource

DAY = timedelta(hours=24)


@pytest.fixture(params=["fake", "spool"])
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Setup:
    return faked() if request.param == "fake" else spooled(tmp_path)


@pytest.fixture
def recent(setup: Setup, tmp_path: Path) -> RecentRecords:
    return setup.source if isinstance(setup.source, FakeRecordSource) else RecentSpool(tmp_path)


def ids(recent: RecentRecords, *, before_s: float = 1e5, most: int = 100, most_bytes: int = 1 << 20) -> list[str]:
    before = START + timedelta(seconds=before_s)
    return [r.id for r in recent.recent(CHAT, since=START - DAY, before=before, most=most, most_bytes=most_bytes)]


def test_nothing_was_recorded(recent: RecentRecords) -> None:
    assert ids(recent) == []


def test_the_latest_come_oldest_first_and_blocks_of_prompts_are_there(setup: Setup, recent: RecentRecords) -> None:
    for at_s in (10, 3700, 20, 30):  # over two hours
        setup.add(record(at_s, record_id=str(at_s)).evolve(prefix_blocks=(1, 2)))
    assert ids(recent) == ["10", "20", "30", "3700"]
    assert ids(recent, most=2) == ["30", "3700"]
    found = recent.recent(CHAT, since=START, before=START + DAY, most=9, most_bytes=1 << 20)
    assert {each.prefix_blocks for each in found} == {(1, 2)}


def test_what_came_later_what_we_sent_and_what_others_asked_is_left_out(setup: Setup, recent: RecentRecords) -> None:
    setup.add(record(1, record_id="mine"))
    setup.add(record(2, record_id="replayed").evolve(replayed=True))
    setup.add(record(3, record_id="other", service="code"))
    setup.add(record(60, record_id="later"))
    assert ids(recent, before_s=60) == ["mine"]


def test_records_that_cannot_be_read_are_an_error(setup: Setup, recent: RecentRecords) -> None:
    setup.break_it()
    with pytest.raises(Unavailable, match="records cannot be read"):
        ids(recent)


def test_what_the_bytes_do_not_reach_leaves_no_gap(tmp_path: Path) -> None:
    """The busy gateway's file reaches back a little only: what the idle one has from before would come without it."""
    setup = spooled(tmp_path)
    for number in range(100):
        setup.add(record(10 + number / 10, record_id=f"busy-{number}", gateway="busy"))
    for at_s in (1, 12, 19.95):
        setup.add(record(at_s, record_id=f"idle-{at_s}", gateway="idle"))
    setup.add(record(-3000, record_id="hour before"))
    line = len(record(10).model_dump_json()) + 1
    found = ids(RecentSpool(tmp_path), most_bytes=25 * line)
    assert found[-2:] == ["busy-99", "idle-19.95"]
    assert 15 < len(found) < 27
    assert not {"idle-1", "hour before"} & set(found)
    busy = [name for name in found if name.startswith("busy")]
    assert busy == [f"busy-{number}" for number in range(100 - len(busy), 100)]


def test_an_hour_that_gets_no_bytes_takes_nothing_from_the_hours_after(tmp_path: Path) -> None:
    setup = spooled(tmp_path)
    setup.add(record(-3000, record_id="before"))
    setup.add(record(100, record_id="now"))
    assert ids(RecentSpool(tmp_path), most_bytes=len(record(100, record_id="now").model_dump_json()) + 1) == ["now"]


def test_files_of_replayed_requests_are_not_even_read(tmp_path: Path) -> None:
    setup = spooled(tmp_path)
    setup.add(record(1, record_id="mine"))
    sent = [record(2, record_id=f"r{n}").evolve(replayed=True) for n in range(50)]
    ReplayRecords(tmp_path, clock=lambda: START).keep(CHAT, sent)
    assert ids(RecentSpool(tmp_path), most_bytes=len(record(1, record_id="mine").model_dump_json()) + 1) == ["mine"]
