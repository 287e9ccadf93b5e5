"""What a disk has is told, and nothing of one that is not there."""

from __future__ import annotations

from pathlib import Path

from controlplane.host.disk import space_at


def test_room_of_a_folder_is_told_and_of_one_that_is_not_there_nothing(tmp_path: Path) -> None:
    found = space_at(tmp_path)
    assert found is not None
    assert 0 <= found.free <= found.size
    assert space_at(tmp_path / "none") is None
