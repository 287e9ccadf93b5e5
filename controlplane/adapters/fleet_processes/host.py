"""The processes of engines on this Linux host: started in sessions of their own, found again, ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from controlplane.domain.process import ProcessId
from controlplane.host.processes import PROC, identify, read_stat, runs

MARK = "FLEETUNE_ENGINE"
"""Environment variable that every process of an engine inherits: `<state directory>#<engine id>`."""

EXEC_S = 5.0
"""How long an exec may take (a program on a disk that hangs) before its process counts as nobody's."""


def exit_code(process: ProcessId) -> int | None:
    """Return how an ended process ended: its exit code, -signal when killed, None when nobody can tell any more.

    Reaps it when it is a child of this process; another process's zombie is only looked at.
    """
    stat = read_stat(process.pid)
    if stat is None or stat.state != "Z" or identify(process.pid) != process:
        return None
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return os.waitstatus_to_exitcode(stat.wait_status)
    return os.waitstatus_to_exitcode(status) if pid == process.pid else None


def spawn(command: Sequence[str], env: Mapping[str, str], log: Path) -> ProcessId:
    """Start a command in a session of its own with output to `log`; it survives this process.

    `posix_spawn` keeps every descriptor of this process (a held lock among them) open in the child until its exec, when
    its environment becomes visible: whoever gets the lock after a crash here finds the child by its mark. Raises
    OSError when there is no such command.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    restored = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]
    pid = os.posix_spawnp(
        command[0], list(command), dict(env), file_actions=actions, setsid=True, setsigmask=[], setsigdef=restored
    )
    found = identify(pid)
    if found is None:
        raise ProcessLookupError(f"process {pid} vanished while it was started")
    return found


def members(mark: str, leader: ProcessId | None) -> list[int]:
    """Return the pids of every running process of an engine: those with its mark and those in its leader's session."""
    session = leader.pid if leader is not None and identify(leader.pid) == leader else None
    return [pid for pid in _pids() if _belongs(pid, mark, session) and runs(pid)]


def find_leader(mark: str) -> ProcessId | None:
    """Return the first session leader among the marked processes: the engine itself. None when none runs."""
    found = [identify(pid) for pid in members(mark, None) if (stat := read_stat(pid)) and stat.session == pid]
    leaders = [process for process in found if process is not None]
    return min(leaders, key=lambda process: process.started_ticks, default=None)


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Signal processes; those already gone are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdigit() and int(name) != os.getpid()]


def _belongs(pid: int, mark: str, session: int | None) -> bool:
    if session is not None and (stat := read_stat(pid)) is not None and stat.session == session:
        return True
    return f"{MARK}={mark}".encode() in _environment(pid).split(b"\0")


def _environment(pid: int) -> bytes:
    """Return the environment of a process; empty when it is gone, somebody else's, or stuck in its exec.

    For an instant of its exec (the spawned child's, and again where a shell becomes the engine) a process has none:
    taken for an answer, a running engine would be missed and started twice.
    """
    give_up_s = time.monotonic() + EXEC_S
    try:
        while not (environment := (PROC / str(pid) / "environ").read_bytes()):
            stat = read_stat(pid)
            if stat is None or not stat.in_exec or time.monotonic() > give_up_s:
                return (PROC / str(pid) / "environ").read_bytes()
            time.sleep(0.0005)
    except OSError:
        return b""
    return environment
