"""Work that goes on beside the requests, until the process ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

_BEGAN = time.monotonic()
"""Of this process: several on one host do not all write at the same instants."""


async def next_turn(every_s: float) -> None:
    """Sleep until the next instant that all who work every so many seconds have in common.

    Whoever is asked for something while files are written waits a little: so that happens less often.
    """
    now = time.monotonic() - _BEGAN
    await asyncio.sleep(every_s - now % every_s)


async def in_background(work: Callable[[], Awaitable[None]], stack: AsyncExitStack) -> None:
    """Begin it; it is cancelled when the stack is left."""
    task = asyncio.ensure_future(work())

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
