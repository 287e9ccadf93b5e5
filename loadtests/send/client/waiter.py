"""How a greenlet waits for a file descriptor, or sleeps, at the least cost. Imported under Locust only."""

from __future__ import annotations

import ctypes
from typing import Any

import gevent
from gevent.monkey import get_original

_PR_SET_TIMERSLACK = 29  # linux/prctl.h


class Waiter:
    """For one greenlet. Unlike `hub.wait`, its watchers stay started: starting one costs system calls every time."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._watchers: dict[int, Any] = {}
        self._waiting: gevent.Greenlet | None = None
        self._sleep = get_original("time", "sleep")
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # sleeps end on time instead of within 50 µs

    def wait(self, fd: int) -> None:
        """Let other greenlets run until `fd` is readable."""
        if fd not in self._watchers:
            watcher = self._watchers[fd] = self._hub.loop.io(fd, 1)
            watcher.start(self._wake)
        self._waiting = gevent.getcurrent()
        try:
            self._hub.switch()
        finally:
            self._waiting = None

    def nap(self, seconds: float) -> None:
        """Sleep, all greenlets with it: for a few milliseconds a switch to the hub and back is the dearer part."""
        self._sleep(seconds)

    def close(self) -> None:
        for watcher in self._watchers.values():
            watcher.stop()
            watcher.close()
        self._watchers.clear()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.switch()
