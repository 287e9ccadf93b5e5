"""A process of a machine, told from any later one with its number."""

from __future__ import annotations

from controlplane.domain.base import Value


class ProcessId(Value):
    """pid, start time in clock ticks since boot, and the boot: no reused pid and no set clock confuses it."""

    pid: int
    started_ticks: int
    boot_id: str
