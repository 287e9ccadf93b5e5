"""What `fleetune doctor` says of one thing, and how errors are put there."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import psutil


class Outcome(StrEnum):
    """What a check came to."""

    WELL = "well"
    DOUBTFUL = "doubtful"  # works, or is not needed by everybody
    BROKEN = "broken"
    LEFT_OUT = "left out"  # nothing of the kind is set up


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    outcome: Outcome
    found: str
    do: str = ""


def port_holder(port: int) -> str:
    """Return who listens at a port, as far as this user may know."""
    try:
        found = [each.pid for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == port]
        pids = [pid for pid in found if pid is not None]
        return f"{psutil.Process(pids[0]).name()} (process {pids[0]})" if pids else "another user's process"
    except psutil.Error:
        return "another process"


def short(error: Exception) -> str:
    """Say what went wrong; a refused connection in words, without its number."""
    told = str(error)
    if isinstance(error, ConnectionRefusedError) or "Connection refused" in told:
        return "nothing listens there (connection refused)"
    return plain(told) or type(error).__name__


def plain(text: str) -> str:
    """Return one line of a message, not too long."""
    return " ".join(text.split())[:200]
