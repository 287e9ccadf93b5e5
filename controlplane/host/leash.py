"""Run a command that dies with whoever started it: `python leash.py FD WORD...`, in a process group of its own.

FD is the reading end of a pipe whose other end only the starter has. The system closes that one when the starter ends,
by kill -9 too; then the whole group is killed. Needs nothing but the standard library: it is run without our packages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

CANNOT_START = 127


def main() -> int:
    """Return the exit code of the command, 127 when there is no such program."""
    lifeline = int(sys.argv[1])
    os.set_inheritable(lifeline, False)
    threading.Thread(target=_watch, args=[lifeline], daemon=True).start()
    try:
        code = subprocess.call(sys.argv[2:])
    except OSError:
        return CANNOT_START
    return code if code >= 0 else 128 - code


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing ever comes: it returns when the other end is gone
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
