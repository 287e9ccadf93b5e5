"""Whose turn it is: which batch is run next, and by which gateway. In the folder here, or RabbitMQ (`queue_rabbitmq`).

A batch is run by one gateway at a time, by a lock in its folder that dies with its holder. One that was taken and not
ended comes up again: when its holder puts it off, and when it dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Protocol

from controlplane.domain.errors import Conflict
from controlplane.gateway.batches.shelf import Shelf
from controlplane.host.locks import alone

LOOK_EVERY_S = 1.0

Ended = bool


@dataclass
class Turn:
    """A batch that is ours to run until `leave`. `tell` is told whether it has ended."""

    batch_id: str
    lock: ExitStack
    tell: Callable[[Ended], Awaitable[None]]

    async def leave(self, ended: Ended) -> None:
        """Let go of it; one that has not ended comes up again."""
        self.lock.close()
        await self.tell(ended)


class BatchQueue(Protocol):
    """Batches that wait to be run."""

    async def give(self, batch_id: str) -> None:
        """Let a batch of the shelf be run. Raises OSError, and it may be given again."""

    async def next(self) -> Turn:
        """Return the next one that nobody runs, as soon as there is one. Raises OSError."""


@dataclass
class FolderQueue:
    """The shelf itself is the queue: what has not ended waits. Who shares the folder sees a batch within a second."""

    shelf: Shelf
    _given: asyncio.Event = field(default_factory=asyncio.Event)
    _taken: set[str] = field(default_factory=set)

    async def give(self, batch_id: str) -> None:
        self._given.set()

    async def next(self) -> Turn:
        while True:
            self._given.clear()
            for batch in await asyncio.to_thread(self.shelf.waiting):
                lock = None if batch.batch_id in self._taken else locked(self.shelf, batch.batch_id)
                if lock is not None:
                    self._taken.add(batch.batch_id)
                    return Turn(batch.batch_id, lock, self._left(batch.batch_id))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._given.wait()

    def _left(self, batch_id: str) -> Callable[[Ended], Awaitable[None]]:
        async def tell(ended: Ended) -> None:
            if not ended:
                await asyncio.sleep(LOOK_EVERY_S)
            self._taken.discard(batch_id)

        return tell


def locked(shelf: Shelf, batch_id: str) -> ExitStack | None:
    """Take a batch's lock; None when somebody has it. Raises OSError."""
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(shelf.folder_of(batch_id) / "lock", what="another gateway runs it"))
        except Conflict:
            return None
        return stack.pop_all()
