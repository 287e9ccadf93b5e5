"""Records reach the disk whole, in files per hour, and are read back whatever happened to the writer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.gateway_files import records_dir, records_hour, records_name
from controlplane.domain.routing import GatewayRecord
from controlplane.gateway.spool import RecordSpool

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
