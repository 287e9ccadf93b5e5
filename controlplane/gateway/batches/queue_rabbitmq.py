"""Batches in a queue of RabbitMQ, for gateways of one data folder. The one door to aio-pika.

A message is the id of a batch: what the batch is lies on the shelf. It is acknowledged when the batch has ended, so
RabbitMQ gives it to another gateway when this one dies. One too many does no harm: the lock and the shelf decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from controlplane.domain.door.batch import WINDOW_S
from controlplane.domain.errors import InvalidInput
from controlplane.gateway.batches.queue import Ended, Turn, locked
from controlplane.gateway.batches.shelf import Shelf

QUEUE = "fleetune.batches"
MOST_AT_ONCE = 50
"""Batches that one gateway holds; their lines share its places anyway."""

AGAIN_AFTER_S = 2.0
_ANSWER_S = 10.0
_LONGEST_RUN_MS = (WINDOW_S + 3600) * 1000  # RabbitMQ takes messages back that are held for longer, if told so


@dataclass
class RabbitQueue:
    """See `BatchQueue`. A connection that is lost is made again; what was held here is then given to anybody."""

    shelf: Shelf
    url: str
    name: str = QUEUE
    _connection: Any = None
    _channel: Any = None
    _came: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _recovered: bool = False
    _later: set[asyncio.Task[None]] = field(default_factory=set)

    async def give(self, batch_id: str) -> None:
        async with _as_oserror(), asyncio.timeout(_ANSWER_S):
            await self._publish(await self._open(), batch_id)

    async def next(self) -> Turn:
        while True:
            async with _as_oserror(), asyncio.timeout(_ANSWER_S):
                await self._open()
            message = await self._came.get()
            turn = None if message is None else await self._taken(message)
            if turn is not None:
                return turn

    async def close(self) -> None:
        """Give everything back that is held."""
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    async def _taken(self, message: Any) -> Turn | None:
        """Return the turn that a message gives; None when its batch is gone, has ended, or is run elsewhere."""
        batch_id, tell = message.body.decode(errors="replace"), _telling(message)
        batch = await asyncio.to_thread(self.shelf.batch, batch_id)
        if batch is None or batch.has_ended:
            await tell(True)
            return None
        lock = locked(self.shelf, batch_id)
        if lock is None:
            task = asyncio.create_task(tell(False))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
            return None
        return Turn(batch_id, lock, tell)

    async def _open(self) -> Any:
        """Return the channel, connecting where there is none."""
        async with self._connecting:
            if self._channel is None or self._channel.is_closed:
                await self._connect()
            return self._channel

    async def _connect(self) -> None:
        from aio_pika import connect

        if self._connection is not None:
            await self._connection.close()
        self._connection = await connect(self.url, timeout=_ANSWER_S)
        channel = await self._connection.channel(publisher_confirms=True)
        channel.close_callbacks.add(self._lost)
        await channel.set_qos(prefetch_count=MOST_AT_ONCE)
        arguments = {"x-consumer-timeout": _LONGEST_RUN_MS}
        queue = await channel.declare_queue(self.name, durable=True, arguments=arguments)
        await self._recover(channel, queue.declaration_result.message_count or 0)
        await queue.consume(self._came.put)
        self._channel = channel

    async def _recover(self, channel: Any, known: int) -> None:
        """Give again what waits and nobody runs: at the start, and where RabbitMQ knows of less since it was lost.

        A gateway may have been killed before it gave a batch, and RabbitMQ may have lost some.
        """
        waiting = await asyncio.to_thread(self._unlocked)
        for batch_id in waiting if not self._recovered or len(waiting) > known else ():
            await self._publish(channel, batch_id)
        self._recovered = True

    async def _publish(self, channel: Any, batch_id: str) -> None:
        from aio_pika import DeliveryMode, Message

        message = Message(batch_id.encode(), delivery_mode=DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=self.name)

    def _unlocked(self) -> list[str]:
        found = []
        for batch in self.shelf.waiting():
            lock = locked(self.shelf, batch.batch_id)
            if lock is not None:
                lock.close()
                found.append(batch.batch_id)
        return found

    def _lost(self, *_: Any) -> None:
        """Wake who waits for a message: it connects again."""
        self._came.put_nowait(None)


def open_rabbitmq(shelf: Shelf, url: str) -> RabbitQueue:
    """Return the queue; it connects when first used. Raises InvalidInput without the extra, or for another URL."""
    try:
        import aio_pika  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            "the queue of batches cannot be used",
            why="aio-pika is not installed",
            allowed="pip install fleetune[rabbitmq]",
        ) from error
    if not url.startswith(("amqp://", "amqps://")):
        raise InvalidInput("the URL of the queue of batches cannot be used", allowed="amqp:// or amqps:// URLs")
    return RabbitQueue(shelf, url)


def _telling(message: Any) -> Callable[[Ended], Coroutine[Any, Any, None]]:
    async def tell(ended: Ended) -> None:
        if not ended:
            await asyncio.sleep(AGAIN_AFTER_S)
        with suppress(OSError):  # it is not ours any more: whoever gets it looks at the shelf
            async with _as_oserror():
                await (message.ack() if ended else message.nack(requeue=True))

    return tell


@asynccontextmanager
async def _as_oserror() -> AsyncIterator[None]:
    """Raise what went wrong as OSError, without its words: they may name the URL, and the password in it."""
    from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

    try:
        yield
    except (AMQPError, ChannelInvalidStateError, OSError) as error:
        raise OSError(None, f"the queue of batches does not answer ({type(error).__name__})") from error
