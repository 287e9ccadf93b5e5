"""Working through much on a thread without holding up the event loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

AT_A_TIME = 16
"""Records or audit entries, some 5 µs each: a thread that has Python's lock is not asked for it before 5 ms."""

PAUSE_S = 1e-4
"""Until another thread surely runs: with a pause of 0 this one has the lock again before anybody woke."""


def in_turns(items: Iterable[T], at_a_time: int = AT_A_TIME) -> Iterator[T]:
    """Yield items, and let go of Python's lock after every so many: a request may be waiting for it."""
    for number, item in enumerate(items, 1):
        yield item
        if number % at_a_time == 0:
            time.sleep(PAUSE_S)
