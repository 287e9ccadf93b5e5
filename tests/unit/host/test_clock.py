"""The clock an installation lives by does not care about the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.host.clock import FILE, set_steady_clock, since_boot_s, steady_clock, utc_now

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Machine:
    """A machine whose wall clock can be set."""

    def __init__(self) -> None:
        self.wall_at, self.up_s, self.boot = NOON, 100.0, "first boot"

    def go_on(self, seconds: float) -> None:
        self.wall_at += timedelta(seconds=seconds)
        self.up_s += seconds

    def clock(self, data_dir: Path) -> datetime:
        """Ask as a process does that starts just now."""
        return steady_clock(data_dir, wall=lambda: self.wall_at, since_boot=lambda: self.up_s, boot=self.boot)()


@given(steps_s=st.lists(st.floats(-1e6, 1e6), max_size=5))
def test_steps_of_the_wall_clock_move_nothing_not_even_for_processes_started_after_them(
    tmp_path_factory: pytest.TempPathFactory, steps_s: list[float]
) -> None:
    folder, machine = tmp_path_factory.mktemp("clock"), Machine()
    began = machine.clock(folder)
    for step in steps_s:
        machine.wall_at += timedelta(seconds=step)
        machine.go_on(10)
    assert began == NOON
    assert machine.clock(folder) - began == timedelta(seconds=10 * len(steps_s))


def test_another_boot_goes_on_from_the_wall_clock(tmp_path: Path) -> None:
    machine = Machine()
    machine.clock(tmp_path)
    machine.boot, machine.up_s, machine.wall_at = "second boot", 5.0, NOON + timedelta(hours=3)
    assert machine.clock(tmp_path) == NOON + timedelta(hours=3)


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"boot')
    assert Machine().clock(tmp_path) == NOON
    assert Machine().clock(tmp_path) == NOON


def test_bringing_an_installation_up_sets_its_clock_by_the_wall(tmp_path: Path) -> None:
    wrong = steady_clock(tmp_path, wall=lambda: NOON)
    assert abs(wrong() - NOON) < timedelta(minutes=5)
    set_steady_clock(tmp_path)
    before, shown, after = utc_now(), steady_clock(tmp_path)(), utc_now()
    assert before - timedelta(seconds=1) < shown < after + timedelta(seconds=1)
    assert since_boot_s() > 0
