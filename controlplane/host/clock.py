"""The clocks of this machine: one that people set their watches by, one that only goes forward.

Leases, deadlines and windows of samples are told by the second: a wall clock that is set (NTP, a resumed machine, a
person) would end them all at once, or none for hours. It is still a date and time, so it can be stored and shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from controlplane.domain.base import Value
from controlplane.host.files import write_whole
from controlplane.host.processes import boot_id

FILE = "clock.json"

Clock = Callable[[], datetime]


class _Anchor(Value):
    """What the wall clock said this boot began, when the installation was last brought up."""

    boot_id: str
    booted_at: AwareDatetime


def utc_now() -> datetime:
    """Return what the wall clock says: for schedules of people ("Sunday 02:00"). Never subtract two of them to wait."""
    return datetime.now(UTC)


def since_boot_s() -> float:
    """Return seconds since this machine started, suspended time included: the same for every process of the boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def steady_clock(
    data_dir: Path, *, wall: Clock = utc_now, since_boot: Callable[[], float] = since_boot_s, boot: str | None = None
) -> Clock:
    """Return the clock that all processes of an installation share: aware UTC, and no step of the wall clock moves it.

    It goes on from what the wall clock said when the installation was last brought up in this boot of the machine.
    Raises OSError when the folder cannot be written.
    """
    path, boot = data_dir / FILE, boot or boot_id()
    anchor = _read(path)
    if anchor is None or anchor.boot_id != boot:
        anchor = _Anchor(boot_id=boot, booted_at=wall() - timedelta(seconds=since_boot()))
        write_whole(path, anchor.model_dump_json())
    began = anchor.booted_at
    return lambda: began + timedelta(seconds=since_boot())


def set_steady_clock(data_dir: Path) -> None:
    """Let the shared clock go on from the wall clock's present time: to be called while no process of it runs."""
    (data_dir / FILE).unlink(missing_ok=True)
    steady_clock(data_dir)


def _read(path: Path) -> _Anchor | None:
    try:
        return _Anchor.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):  # a damaged one is as good as none
        return None
