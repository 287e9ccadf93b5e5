"""Records reach the disk whole, in files per hour, and are read back whatever happened to the writer."""

from __future__ import annotations

import errno
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_hour, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.gateway.spool import BATCH, RecordSpool, append_lines

START = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
CHAT = ServiceName("chat")


def record(number: int) -> GatewayRecord:
    return GatewayRecord(
        id=str(number),
        at=START + timedelta(seconds=number),
        gateway="gw-1",
        service="chat",
        model="llama",
        revision=RevisionId("rev-a"),
        engine_id="e1",
        path="/v1/completions",
        stream=False,
        status=200,
        error=None,
    )


def spool(data_dir: Path, at: datetime = START) -> RecordSpool:
    return RecordSpool(records_dir(data_dir), "gw-1", clock=lambda: at, retention_h=2)


def ids(source: SpooledRecords) -> list[str]:
    return [found.id for found in source.read(CHAT, since=START)]


async def write(to: RecordSpool, *numbers: int) -> None:
    for number in numbers:
        to.keep(record(number))
    await to.flush()


def test_a_files_name_tells_its_hour() -> None:
    name = records_name("gw-east-1", START)
    assert name == "gw-east-1-20260301T10.jsonl"
    assert records_hour(name) == START.replace(minute=0)
    assert records_hour("notes.jsonl") is None
    assert records_hour("gw-1-20260301T10.tmp") is None


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    writer, reader = spool(tmp_path), SpooledRecords(tmp_path)
    await write(writer, 1, 2)
    assert ids(reader) == ["1", "2"]
    await write(writer, 3)
    assert ids(reader) == ["1", "2", "3"]
    assert writer.written == 3


async def test_a_line_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    reader = SpooledRecords(tmp_path)
    await write(spool(tmp_path), 1)
    line = record(2).model_dump_json().encode() + b"\n"
    path = records_dir(tmp_path) / records_name("gw-1", START)
    with path.open("ab") as file:
        file.write(line[:50])
        file.flush()
        assert ids(reader) == ["1"]
        file.write(line[50:])
    assert ids(reader) == ["1", "2"]


async def test_a_line_torn_by_a_crash_costs_only_itself(tmp_path: Path) -> None:
    reader = SpooledRecords(tmp_path)
    await write(spool(tmp_path), 1)
    with (records_dir(tmp_path) / records_name("gw-1", START)).open("ab") as file:
        file.write(b'{"id": "torn')
    assert ids(reader) == ["1"]
    await write(spool(tmp_path), 2)  # the restarted gateway
    assert ids(reader) == ["1", "2"]


async def test_a_disk_that_refuses_loses_nothing(tmp_path: Path) -> None:
    writer = spool(tmp_path)
    records_dir(tmp_path).write_text("a file where the folder should be")
    await write(writer, 1, 2)
    await write(writer, 3)
    assert writer.written == 0
    records_dir(tmp_path).unlink()
    await writer.flush()
    assert ids(SpooledRecords(tmp_path)) == ["1", "2", "3"]
    assert (writer.written, writer.dropped) == (3, 0)


async def test_old_files_are_removed_after_the_retention(tmp_path: Path) -> None:
    for hours in (0, 1, 2, 3, 4):
        await write(spool(tmp_path, START + timedelta(hours=hours)), hours)
    (records_dir(tmp_path) / "notes.jsonl").write_text("somebody else's")
    spool(tmp_path, START + timedelta(hours=4)).prune()
    kept = sorted(path.name for path in records_dir(tmp_path).glob("*.jsonl"))
    assert kept == [*(f"gw-1-20260301T1{hour}.jsonl" for hour in (2, 3, 4)), "notes.jsonl"]


async def test_a_file_removed_after_its_retention_is_no_trouble_to_the_reader(tmp_path: Path) -> None:
    reader = SpooledRecords(tmp_path)
    await write(spool(tmp_path), 1)
    assert ids(reader) == ["1"]
    (records_dir(tmp_path) / records_name("gw-1", START)).unlink()
    await write(spool(tmp_path, START + timedelta(hours=3)), 2)
    assert ids(reader) == ["1", "2"]


@pytest.mark.parametrize("window", [5, 50])
async def test_no_record_is_lost_beyond_the_window(tmp_path: Path, window: int) -> None:
    writer, reader = spool(tmp_path), SpooledRecords(tmp_path, window=window)
    for number in range(40):
        await write(writer, number)
        assert ids(reader) == [str(n) for n in range(number + 1)]


class FullDisk(io.FileIO):
    """A file on a disk with `room` bytes left."""

    room = 0

    def write(self, data: Any) -> int:
        taken = bytes(data)[: self.room]
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(taken)
        return super().write(taken)


@given(room=st.integers(0, 3000), torn=st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_disk_that_fills_up_keeps_whole_lines_each_once(tmp_path: Path, room: int, torn: bool) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"id": "torn' if torn else b"")
    batch = [record(number) for number in range(6)]
    with FullDisk(path, "ab+") as disk:
        disk.room = room
        kept, error = append_lines(disk, batch, b"\n" if torn else b"")
        disk.room = 1 << 20
        assert (error is None) == (kept == 6)
        if kept < 6:
            assert append_lines(disk, batch[kept:], b"\n" if torn and not kept else b"") == (6 - kept, None)
    lines = path.read_bytes().splitlines()[torn:]
    assert [json.loads(line)["id"] for line in lines] == [str(number) for number in range(6)]


async def test_a_backlog_is_made_into_lines_a_batch_at_a_time(tmp_path: Path) -> None:
    writer = spool(tmp_path)
    records_dir(tmp_path).write_text("a file: every append fails, as on a full disk")
    numbers = range(BATCH + 500)
    await write(writer, *numbers)
    assert writer.written == 0
    records_dir(tmp_path).unlink()
    await writer.flush()
    assert (writer.written, writer.dropped) == (len(numbers), 0)
    assert ids(SpooledRecords(tmp_path)) == [str(number) for number in numbers]
