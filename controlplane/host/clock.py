"""The clocks of this machine: one that people read and that may be set, one that only goes forward."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present moment for people and records. It may be stepped: never subtract two of them to wait."""
    return datetime.now(UTC)


def since_boot_s() -> float:
    """Return seconds since this machine started, suspended time included: no step of the wall clock moves it.

    Comparable between processes of one boot; `controlplane.host.processes.boot_id` says whether it is the same one.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
