"""Texts of many requests computed together: the only place where requests meet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from controlplane.embedding.model import Embedded, Text


class QueueFull(Exception):
    """More texts wait than may."""


class Vector(NamedTuple):
    """One text's vector, shape (dimensions,), and its tokens."""

    values: npt.NDArray[np.float32]
    tokens: int


class _Waiting(NamedTuple):
    text: Text
    since_s: float
    answer: asyncio.Future[Vector]


class Batches:
    """Computes up to `max_batch_size` texts at once on each of `threads` threads.

    A batch starts when it is full or when its oldest text has waited `max_wait_s`, as soon as a thread is free. Used
    by one event loop.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[Text]], Embedded],
        *,
        max_batch_size: int,
        max_wait_s: float,
        threads: int,
        max_queue: int,
    ) -> None:
        self._embed = embed
        self._size, self._wait_s, self._threads, self._most = max_batch_size, max_wait_s, threads, max_queue
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embed")
        self._queue: deque[_Waiting] = deque()
        self._busy: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.running = 0
        self.sizes: dict[int, int] = {}  # batches by how many texts they had

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return len(self._queue)

    async def vectors(self, texts: Sequence[Text]) -> list[Vector]:
        """Return the vectors of a request's texts, in order. Raises QueueFull."""
        if len(self._queue) + len(texts) > self._most:
            raise QueueFull
        loop = asyncio.get_running_loop()
        mine = [_Waiting(text, loop.time(), loop.create_future()) for text in texts]
        self._queue.extend(mine)
        self._start()
        return [await each.answer for each in mine]

    def close(self) -> None:
        """Let go of the threads; what waits is never answered."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Start what may start now, and wake up when the next text has waited long enough."""
        loop = asyncio.get_running_loop()
        while self._queue and len(self._busy) < self._threads:
            left_s = self._queue[0].since_s + self._wait_s - loop.time()
            if len(self._queue) < self._size and left_s > 0:
                self._wake_in(left_s)
                return
            batch = [self._queue.popleft() for _ in range(min(self._size, len(self._queue)))]
            task = loop.create_task(self._compute(batch))
            self._busy.add(task)
            task.add_done_callback(self._done)

    def _wake_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._start()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._start()

    async def _compute(self, batch: Sequence[_Waiting]) -> None:
        wanted = [each for each in batch if not each.answer.done()]  # a client that left needs no answer
        if not wanted:
            return
        self.running += len(wanted)
        self.sizes[len(wanted)] = self.sizes.get(len(wanted), 0) + 1
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._pool, self._embed, [each.text for each in wanted])
        except Exception as error:  # noqa: BLE001 - whatever broke, every request of the batch is told
            for each in wanted:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        finally:
            self.running -= len(wanted)
        for each, values, tokens in zip(wanted, found.vectors, found.tokens, strict=True):
            if not each.answer.done():
                each.answer.set_result(Vector(values, tokens))
