"""A gateway that writes down what kept the others from going on: `python -m benchmarks.doors.watched FILE <options>`.

On a busy machine the wall clock tells how long a process waited for its core, not for whom. Here CPU time is counted:
of each callback of the event loop, and on other threads from one call or return to the next, between which Python's
lock may be held and no stream move. One JSON line for each that took more than 2 ms; the file is complete at any time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from controlplane.gateway.__main__ import main

LEAST_MS = 2.0

_LETS_GO = frozenset({"decompress", "blake2b", "update", "acquire", "put", "write", "fsync", "read", "get", "run"})
"""Calls that let go of Python's lock while they take long, and those that run Python code inside."""
_HASHED = frozenset({"digest", "hexdigest"})
"""What was done before them was hashing, which lets go of the lock too."""


class Held(NamedTuple):
    """What held the others up, where (`loop` or `thread`), and its CPU time."""

    where: str
    what: str
    cpu_ms: float


def watch(told: Callable[[Held], None]) -> None:
    """Tell of everything that takes long from now on, in this process."""
    _watch_callbacks(told)
    threading.setprofile(_calls(told))


def _watch_callbacks(told: Callable[[Held], None]) -> None:
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        before = time.thread_time()
        run(handle)
        _tell(told, "loop", handle, time.thread_time() - before)

    setattr(asyncio.Handle, "_run", timed)  # noqa: B010  # a plain assignment mypy lets nobody make


def _calls(told: Callable[[Held], None]) -> Callable[[FrameType, str, Any], None]:
    """Return a profile function for each new thread. What takes long without a call is told too, lock or not."""
    last = threading.local()

    def profile(frame: FrameType, event: str, called: Any) -> None:
        now, called_c = time.thread_time(), event in ("c_return", "c_exception")
        what = getattr(called, "__qualname__", "?") if called_c else frame.f_code.co_qualname
        name = getattr(called, "__name__", "")
        if not (called_c and name in _LETS_GO) and not (event == "c_call" and name in _HASHED):
            _tell(told, "thread", what, now - getattr(last, "at", now))
        last.at = time.thread_time()

    return profile


def _tell(told: Callable[[Held], None], where: str, what: object, cpu_s: float) -> None:
    if cpu_s * 1000 >= LEAST_MS:
        told(Held(where, _named(what), round(cpu_s * 1000, 2)))


def _named(what: object) -> str:
    """Return what a callback is, without what it is given: that may be a body."""
    callback = getattr(what, "_callback", None)
    if callback is None:
        return str(what) if isinstance(what, str) else type(what).__name__
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return str(getattr(task.get_coro(), "__qualname__", "a task"))
    return str(getattr(callback, "__qualname__", type(callback).__name__))


def _writing(path: Path) -> Callable[[Held], None]:
    file = path.open("a", buffering=1)
    return lambda held: print(json.dumps(held._asdict()), file=file, flush=True)


if __name__ == "__main__":
    watch(_writing(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
