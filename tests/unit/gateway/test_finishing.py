"""A moment is found in a file of records by halves, and is where reading line by line finds it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from controlplane.adapters.gateway import finishing
from controlplane.adapters.gateway.finishing import finished_from, line_from
from tests.contract.test_record_source import START, record


def a_file(folder: Path, lines: int) -> tuple[Path, list[tuple[int, float]]]:
    """Write records of very different lengths; return where each begins and when, in seconds, it finished."""
    chance, path, at, begins = Random(3), folder / "gw-1-20260301T10.jsonl", 0.0, []
    with path.open("wb") as file:
        for number in range(lines):
            at += chance.random() / 10
            late = max(0.0, at - chance.random())  # arrived so long ago, or was written a little late
            blocks = tuple(range(chance.choice((0, 0, 0, 2000))))
            begins.append((file.tell(), late + 0.1))
            file.write(record(late).evolve(prefix_blocks=blocks).model_dump_json().encode() + b"\n")
            if number % 500 == 0:
                file.write(b"half a li\n")
    return path, begins


@pytest.mark.parametrize("block_bytes", [1 << 16, 1 << 10])
def test_a_moment_is_found_where_reading_line_by_line_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(finishing, "BLOCK_BYTES", block_bytes)
    path, begins = a_file(tmp_path, 1500)
    end = path.stat().st_size
    for moment_s in (-1.0, 0.0, 0.3, 10.0, 33.3, 50.0, 74.0, 80.0, 1e6):
        expected = next((begin for begin, finished_s in begins if round(finished_s, 6) >= moment_s), end)
        assert finished_from(path, end, START + timedelta(seconds=moment_s)) == expected


def test_little_of_a_file_is_read_to_find_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = a_file(tmp_path, 4000)
    looked_at: list[bytes] = []
    judge = finishing._is_from

    def look(line: bytes, since: datetime) -> bool:
        looked_at.append(line)
        return judge(line, since)

    monkeypatch.setattr(finishing, "_is_from", look)
    finished_from(path, path.stat().st_size, START + timedelta(seconds=150))
    assert len(looked_at) < 600  # of these some hundred finished within the slack


def test_a_line_begins_at_or_after_an_offset_and_a_file_that_is_gone_has_none(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\n")
    assert [line_from(path, each) for each in (0, 1, 4, 5)] == [0, 4, 4, 8]
    assert (line_from(tmp_path / "gone", 3), finished_from(tmp_path / "gone", 9, START)) == (0, 0)
