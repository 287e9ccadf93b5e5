"""Work that goes on beside the requests, until the process ends."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

_BEGAN = time.monotonic()
"""Of this process: several on one host do not all write at the same instants."""


async def next_turn(every_s: float) -> None:
    """Sleep until the next instant that all who work every so many seconds have in common.

    Whoever is asked for something while files are written waits a little: so that happens less often.
    """
    await asyncio.sleep(until_turn(every_s, time.monotonic() - _BEGAN))


def until_turn(every_s: float, now_s: float) -> float:
    """Return the seconds until the next multiple of `every_s`, at `now_s` since all of them began.

    A thousandth before one counts as at it: timers are a little early at times.
    """
    return (math.floor(now_s / every_s + 0.001) + 1) * every_s - now_s


async def in_background(work: Callable[[], Awaitable[None]], stack: AsyncExitStack) -> None:
    """Begin it; it is cancelled when the stack is left."""
    task = asyncio.ensure_future(work())

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
