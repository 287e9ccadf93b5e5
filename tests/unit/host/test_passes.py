"""Whether the controller still finishes passes is known to every process of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.host.passes import FILE, Passes, passed_s_ago


def test_passes_are_noted_every_few_seconds_and_read_by_the_time_since_the_machine_started(tmp_path: Path) -> None:
    now = [100.0]
    passes = Passes(tmp_path, since_boot=lambda: now[0])
    one = passes.noting(lambda: True)
    assert passed_s_ago(tmp_path, since_boot=lambda: now[0]) is None
    assert one() is True
    now[0] = 103.0
    one()
    assert passed_s_ago(tmp_path, since_boot=lambda: now[0]) == pytest.approx(3.0)
    now[0] = 106.0
    one()
    assert passed_s_ago(tmp_path, since_boot=lambda: now[0]) == 0


def test_a_pass_that_raises_is_none(tmp_path: Path) -> None:
    def broken() -> bool:
        raise RuntimeError("the store is gone")

    with pytest.raises(RuntimeError):
        Passes(tmp_path).noting(broken)()
    assert not (tmp_path / FILE).exists()


def test_a_folder_that_cannot_be_written_ends_no_pass(tmp_path: Path) -> None:
    assert Passes(tmp_path / "missing").noting(lambda: False)() is False


@pytest.mark.parametrize("text", ["", "soon", "9e99"])
def test_what_is_no_time_of_this_boot_is_not_known(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert passed_s_ago(tmp_path, since_boot=lambda: 50.0) is None
