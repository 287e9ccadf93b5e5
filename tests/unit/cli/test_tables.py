"""Tables fit the terminal, and lose nothing when another program reads them."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from controlplane.cli.tables.show import Column, as_lines, as_table, field, that_fit

ID = "summarise-long-documents-r12"
ROW = {"id": ID, "state": "progressing", "canary": "0123456789ab", "reason": "latency of the canary " * 12}
COLUMNS = [
    Column("rollout", field("id")),
    Column("state", field("state")),
    Column("canary", field("canary"), wide=True),
    Column("reason", field("reason"), text=True),
]


def drawn(width: int) -> list[str]:
    page = io.StringIO()
    as_table([ROW], COLUMNS, empty="", on=Console(file=page, width=width, force_terminal=True, color_system=None))
    return re.sub(r"\x1b\[[\d;]*m", "", page.getvalue()).splitlines()


@given(width=st.integers(len(ID), 300))
def test_on_a_terminal_no_line_is_longer_than_it_and_the_name_is_whole(width: int) -> None:
    lines = drawn(width)
    assert max(len(line.rstrip()) for line in lines) <= width
    assert ID in "\n".join(lines)
    assert len(lines) == 2, "a row is one line"


def test_what_has_no_room_is_left_out_and_not_cut() -> None:
    assert [line.strip() for line in drawn(len(ID) + 6)] == ["rollout", ID]


def test_a_sentence_without_room_is_left_out_before_a_name_is() -> None:
    width = len(ID) + len("progressing") + 2
    assert [each.title for each in that_fit([ROW], COLUMNS[:2] + COLUMNS[3:], width)] == ["rollout", "state"]


def test_piped_nothing_is_cut_and_no_line_broken(capsys: pytest.CaptureFixture[str]) -> None:
    as_table([ROW], COLUMNS, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert ROW["reason"].strip() in lines[1]
    assert "canary" not in lines[0].split()


def test_wide_shows_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    as_table([ROW], COLUMNS, empty="", wide=True)
    assert capsys.readouterr().out.splitlines()[0].split() == ["rollout", "state", "canary", "reason"]


def test_one_thing_piped_has_a_line_per_field(capsys: pytest.CaptureFixture[str]) -> None:
    as_lines(ROW, COLUMNS)
    assert len(capsys.readouterr().out.splitlines()) == len(COLUMNS)


def test_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    as_table([{"id": "a[red]b[/]"}], [Column("name", field("id"))], empty="")
    assert "a[red]b[/]" in capsys.readouterr().out
