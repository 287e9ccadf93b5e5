"""A batch's journal: no result is lost or there twice, wherever a process dies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from controlplane.gateway.batches.journal import Done, Journal

ENTRIES = [Done(3, True, b'{"a": 1}'), Done(1, False, b'{"b": "x y"}'), Done(2, True, b"{}")]


def test_cut_at_every_byte_it_holds_just_what_was_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    for done in ENTRIES:
        journal.add(done)
    journal.close()
    data, whole = path.read_bytes(), 0
    ends = [len(b"".join(done.written() for done in ENTRIES[:count])) for count in range(4)]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        again = Journal(path)
        whole = sum(end <= cut for end in ends) - 1
        assert list(again.entries()) == ENTRIES[:whole]
        assert again.done == {done.number for done in ENTRIES[:whole]}
        for done in ENTRIES:  # the run goes on, and gives what it had again
            again.add(done)
        assert list(again.entries()) == ENTRIES
        assert (again.completed, again.failed) == (2, 1)
        again.close()


def test_half_a_line_longer_than_a_block_is_taken_away(tmp_path: Path) -> None:
    path, whole = tmp_path / "journal", Done(1, True, b"x" * (3 << 20)).written()
    for kept in (b"", whole):
        path.write_bytes(kept + b"2 1 " + b"y" * (3 << 20))
        journal = Journal(path)
        assert journal.done == ({1} if kept else set())
        journal.close()
        assert path.read_bytes() == kept


def test_what_a_full_disk_refused_is_not_there_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal")
    journal.add(ENTRIES[0])

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            journal.add(ENTRIES[1])
    assert list(journal.entries()) == ENTRIES[:1]
    journal.add(ENTRIES[1])
    assert list(journal.entries()) == ENTRIES[:2]
    journal.close()
