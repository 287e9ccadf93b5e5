"""Work that goes on beside the requests, until the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress


async def in_background(work: Callable[[], Awaitable[None]], stack: AsyncExitStack) -> None:
    """Begin it; it is cancelled when the stack is left."""
    task = asyncio.ensure_future(work())

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
