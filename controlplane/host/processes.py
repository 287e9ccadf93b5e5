"""Who a process of this machine is. Read from /proc and not with psutil: see `ProcessStat`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.process import ProcessId

PROC = Path("/proc")


class ProcessStat(NamedTuple):
    """What /proc/<pid>/stat says that psutil does not: the start in ticks since boot, and how a zombie ended.

    psutil gives the start as a wall-clock time (boot time + ticks), which moves when the clock is set. `in_exec`: its
    memory is already that of the new program, whose environment is not laid out yet, so that it cannot be read.
    """

    state: str
    session: int
    started_ticks: int
    wait_status: int
    in_exec: bool


def this_process() -> ProcessId:
    """Return who this process is."""
    found = identify(os.getpid())
    assert found is not None, "this process runs"
    return found


def identify(pid: int) -> ProcessId | None:
    """Return who has this pid now, None when nobody."""
    stat = read_stat(pid)
    return None if stat is None else ProcessId(pid=pid, started_ticks=stat.started_ticks, boot_id=boot_id())


def is_alive(process: ProcessId) -> bool:
    """Say whether this very process still runs (a zombie whose threads all ended does not)."""
    return identify(process.pid) == process and runs(process.pid)


def runs(pid: int) -> bool:
    """Say whether anything of the process with this pid runs."""
    stat = read_stat(pid)
    if stat is None:
        return False
    if stat.state not in ("Z", "X"):
        return True
    try:
        return len(os.listdir(PROC / str(pid) / "task")) > 1  # the first thread ended, others still hold the GPU
    except OSError:
        return False


def read_stat(pid: int) -> ProcessStat | None:
    """Read /proc/<pid>/stat (proc_pid_stat(5)).

    State is field 3, session 6, start time 22, size of the address space 23, end of the environment 51, wait status 52.
    """
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return ProcessStat(
        fields[0],
        session=int(fields[3]),
        started_ticks=int(fields[19]),
        wait_status=int(fields[49]),
        in_exec=int(fields[20]) > 0 and int(fields[48]) == 0,
    )


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
