"""Ending gracefully: nothing new is accepted, what is in flight may finish within a time, the rest is told so."""

from __future__ import annotations

import asyncio
import os
import signal

LAST_WORDS_S = 2.0


class Drain:
    """Counts the requests being served and, at the end, waits for them. Belongs to one event loop."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.cutting = asyncio.Event()  # the time is over: what is still in flight is ended with an error event
        self._tasks: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def began(self) -> bool:
        return self.requested.is_set()

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    def request(self) -> None:
        """Begin; again is fine."""
        self.requested.set()

    def begin(self) -> asyncio.Task[object]:
        """Count the present task as serving a request, and return it, to be given to `end`."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._idle.clear()
        return task

    def end(self, task: asyncio.Task[object]) -> None:
        """Count it no longer."""
        self._tasks.discard(task)
        if not self._tasks:
            self._idle.set()

    async def finish(self, limit_s: float) -> int:
        """Wait until nothing is in flight, at most `limit_s`; return how many requests had to be cut."""
        if await self._idle_within(limit_s):
            return 0
        self.cutting.set()
        cut = list(self._tasks)
        for task in cut:
            task.cancel()
        await self._idle_within(LAST_WORDS_S)
        return len(cut)

    async def _idle_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def drain_on_signals(drain: Drain) -> None:
    """Begin to drain on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain.request)


def drain_with(pipe: int, drain: Drain) -> None:
    """Begin to drain when the other end of a pipe is closed, which the system does for a killed process too."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        if not os.read(pipe, 4096):
            loop.remove_reader(pipe)
            drain.request()

    loop.add_reader(pipe, look)
