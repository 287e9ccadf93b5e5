"""Whether the host keeps time: what an idle thread's timer sees, and how much of the CPU others took.

A generator that is late on a host that stalls is not to blame, and another rate would not help. So a thread that does
nothing but sleep runs beside each run, in the parent process, which waits meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_EVERY_S = 0.01
_STEP_MS = 0.1
_STAT = Path("/proc/stat")
_STEAL = 7  # of the times in the first line: user nice system idle iowait irq softirq steal


class Host(NamedTuple):
    """What the host did during a run: P99 of an idle timer's lateness, ms of wall clock, and the share of CPU time
    that other guests of the machine took, %; None where the kernel does not say.
    """

    timer_late_ms: float
    steal_percent: float | None = None

    def blame(self, limit_ms: float) -> str:
        """Say what the host has to do with a lag above `limit_ms` of wall clock; nothing when it kept its time."""
        if self.timer_late_ms < limit_ms / 2:
            return ""
        steal = "" if not self.steal_percent else f" and {self.steal_percent:.0f} % of its CPU went to other guests"
        return (
            f"; the host stalls: an idle timer was {self.timer_late_ms:.1f} ms late at P99{steal}"
            " (free it of other work, keep cores for the generator, or use another host)"
        )


class HostWatch:
    """A context in which the host is watched."""

    def __init__(self) -> None:
        self._late: Counter[int] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sleep, name="host-watch", daemon=True)
        self._before = _times()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def seen(self) -> Host:
        """Return what was seen so far."""
        return Host(late_p99_ms(self._late), steal_percent(self._before, _times()))

    def _sleep(self) -> None:
        while not self._over.is_set():
            due_s = time.monotonic() + _EVERY_S
            time.sleep(_EVERY_S)
            self._late[int((time.monotonic() - due_s) * 1e3 / _STEP_MS)] += 1


class HostProcess:
    """A context in which the host is watched by a process of its own, for one whose own threads would be late too."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "loadtests.measure.host"]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.communicate()

    def seen(self) -> Host:
        """End the watch and return what was seen."""
        return Host(**json.loads(self._child.communicate()[0]))


def late_p99_ms(late: Counter[int]) -> float:
    """Return the P99 of counts per tenth of a millisecond, ms, to that; 0 of none."""
    left = late.total() / 100
    for step in sorted(late, reverse=True):
        left -= late[step]
        if left <= 0:
            return step * _STEP_MS
    return 0.0


def steal_percent(before: str, after: str) -> float | None:
    """Return the share of CPU time between two readings of the first line of /proc/stat that was stolen, %."""
    first, last = ([int(each) for each in line.split()[1:9]] for line in (before, after))
    if min(len(first), len(last)) <= _STEAL:
        return None
    spent = sum(last) - sum(first)
    return 100 * (last[_STEAL] - first[_STEAL]) / spent if spent > 0 else 0.0


def _times() -> str:
    try:
        return _STAT.read_text().partition("\n")[0]
    except OSError:  # no Linux
        return ""


def main() -> None:
    """Watch until the standard input ends, then print what was seen."""
    with HostWatch() as watch:
        sys.stdin.read()
        sys.stdout.write(json.dumps(watch.seen()._asdict()))


if __name__ == "__main__":
    main()
