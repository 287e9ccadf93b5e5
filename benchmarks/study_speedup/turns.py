"""A virtual clock that several workers share: one of them runs at a time, and who waits the shortest goes on next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from tests.fakes.fleet import FakeClock


class Turns(FakeClock):
    """Time passes while all workers wait. Equal waits go on in the order of the workers, so a run repeats itself.

    `at_once` is called with every new instant before a worker goes on: it gives the signs of life of those that wait.
    """

    def __init__(self, at_once: Callable[[datetime], None]) -> None:
        super().__init__()
        self._at_once = at_once
        self._turn = threading.Condition()
        self._due: dict[int, datetime] = {}  # of each worker that is not over
        self._whose: int | None = None
        self._mine = threading.local()

    def go_on(self, seconds: float) -> None:
        """Let a worker wait so long; others work meanwhile."""
        with self._turn:
            number: int = self._mine.number
            self._due[number] = self.now + timedelta(seconds=seconds)
            self._pass_on()
            self._turn.wait_for(lambda: self._whose == number)

    def run(self, workers: Sequence[Callable[[], None]]) -> None:
        """Let workers work side by side until all are over. Raises the first error of one."""
        self._due = dict.fromkeys(range(len(workers)), self.now)
        with ThreadPoolExecutor(len(workers)) as pool:
            begun = [pool.submit(self._work, number, each) for number, each in enumerate(workers)]
            with self._turn:
                self._pass_on()
        for each in begun:
            each.result()

    def _work(self, number: int, work: Callable[[], None]) -> None:
        self._mine.number = number
        with self._turn:
            self._turn.wait_for(lambda: self._whose == number)
        try:
            work()
        finally:
            with self._turn:
                del self._due[number]
                self._pass_on()

    def _pass_on(self) -> None:
        if not self._due:
            return
        self._whose = min(self._due, key=lambda number: (self._due[number], number))
        self.now = max(self.now, self._due[self._whose])
        self._at_once(self.now)
        self._turn.notify_all()
