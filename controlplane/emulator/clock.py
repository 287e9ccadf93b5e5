"""Emulated time on top of the wall clock, and an event loop that wakes within a tenth of a millisecond."""

from __future__ import annotations

import asyncio
import math
import select
import selectors
from collections.abc import Callable


class LapsedClock:
    """Emulated seconds since the start: `speed` of them pass per wall-clock second.

    The speed may change while it runs (a degraded engine is one whose own time runs slower).
    """

    def __init__(self, wall: Callable[[], float], speed: float) -> None:
        self._wall = wall
        self._speed = speed
        self._base_wall = wall()
        self._base = 0.0
        self._stopped = False

    def now(self) -> float:
        return self.at(self._wall())

    def at(self, wall_s: float) -> float:
        """Return the emulated moment of a wall-clock moment."""
        return self._base if self._stopped else self._base + (wall_s - self._base_wall) * self._speed

    def wall_at(self, emulated_s: float) -> float:
        """Return the wall-clock moment of an emulated moment; infinity while the clock stands."""
        return math.inf if self._stopped else self._base_wall + (emulated_s - self._base) / self._speed

    def span(self, wall_s: float) -> float:
        """Return how much emulated time passes in a span of wall-clock time."""
        return wall_s * self._speed

    def change_speed(self, speed: float) -> None:
        wall = self._wall()
        self._base, self._base_wall, self._speed = self.at(wall), wall, speed

    def stop(self) -> None:
        """Let no time pass until `go`."""
        self.change_speed(self._speed)
        self._stopped = True

    def go(self) -> None:
        """Let time pass again; a clock that was not stopped goes on as it did."""
        if self._stopped:
            self._stopped, self._base_wall = False, self._wall()


class _PreciseSelector(selectors.EpollSelector):
    """epoll counts time-outs in whole milliseconds; `select` on the epoll descriptor itself, in microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def precise_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers fire within about 0.1 ms (asyncio's own: about 1 ms late)."""
    return asyncio.SelectorEventLoop(_PreciseSelector())
