"""One suite for queues of batches: the folder, and a real RabbitMQ where the machine has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
import pytest_asyncio

from controlplane.domain.door.batch import Batch, BatchStatus
from controlplane.domain.errors import InvalidInput
from controlplane.gateway.batches.queue import BatchQueue, FolderQueue, Turn
from controlplane.gateway.batches.queue_rabbitmq import RabbitQueue, open_rabbitmq
from controlplane.gateway.batches.shelf import Shelf
from tests.rabbitmq import OwnRabbitMQ, own_rabbitmq

SOON_S = 1.5
"""Long enough for a queue that would give a batch to give it."""

Taker = Callable[[], BatchQueue]


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[OwnRabbitMQ]:
    with TemporaryDirectory() as folder, own_rabbitmq(Path(folder)) as node:
        yield node


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest_asyncio.fixture(params=["folder", "rabbitmq"])
async def taker(request: pytest.FixtureRequest, shelf: Shelf) -> AsyncIterator[Taker]:
    """Return what makes a queue as one gateway has it; several share the batches."""
    if request.param == "folder":
        yield lambda: FolderQueue(Shelf(shelf.root))
        return
    node: OwnRabbitMQ = request.getfixturevalue("rabbitmq")
    name = f"tests-{uuid4().hex}"
    async with AsyncExitStack() as stack:

        def make() -> BatchQueue:
            queue = RabbitQueue(Shelf(shelf.root), node.url, name)
            stack.push_async_callback(queue.close)
            return queue

        yield make


def put(shelf: Shelf, created_at: int = 1, status: BatchStatus = BatchStatus.VALIDATING) -> Batch:
    batch = Batch(
        batch_id=shelf.new_id("batch"),
        principal=None,
        endpoint="/v1/completions",
        input_file_id="file-" + "0" * 24,
        created_at=created_at,
        status=status,
    )
    shelf.put_batch(batch)
    return batch


async def given(queue: BatchQueue, shelf: Shelf, created_at: int = 1) -> str:
    batch = put(shelf, created_at)
    await queue.give(batch.batch_id)
    return batch.batch_id


async def taken(queue: BatchQueue) -> Turn:
    """Wait for a turn, as long as only a queue that never gives one would take."""
    async with asyncio.timeout(240):
        return await queue.next()


async def nothing(queue: BatchQueue) -> bool:
    try:
        async with asyncio.timeout(SOON_S):
            await queue.next()
    except TimeoutError:
        return True
    return False


def end(shelf: Shelf, batch_id: str) -> None:
    batch = shelf.batch(batch_id)
    assert batch is not None
    shelf.put_batch(batch.evolve(status=BatchStatus.COMPLETED))


async def test_batches_come_in_their_order_and_each_once(taker: Taker, shelf: Shelf) -> None:
    queue = taker()
    wanted = [await given(queue, shelf, created_at) for created_at in (1, 2, 3)]
    turns = [await taken(queue) for _ in wanted]
    assert [turn.batch_id for turn in turns] == wanted
    assert await nothing(queue)
    for turn in turns:
        end(shelf, turn.batch_id)
        await turn.leave(True)
    assert await nothing(queue)


async def test_of_two_gateways_one_gets_it(taker: Taker, shelf: Shelf) -> None:
    one, other = taker(), taker()
    batch_id = await given(one, shelf)
    waiting = {asyncio.create_task(each.next()) for each in (one, other)}
    async with asyncio.timeout(240):
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    turn = done.pop().result()
    assert (turn.batch_id, len(left)) == (batch_id, 1)
    finished, _ = await asyncio.wait(left, timeout=SOON_S)
    assert not finished
    end(shelf, batch_id)
    await turn.leave(True)
    for task in left:
        task.cancel()


async def test_what_is_put_off_comes_up_again(taker: Taker, shelf: Shelf) -> None:
    queue = taker()
    batch_id = await given(queue, shelf)
    await (await taken(queue)).leave(False)
    assert (await taken(queue)).batch_id == batch_id


async def test_what_a_gateway_held_that_is_gone_is_given_to_another(taker: Taker, shelf: Shelf) -> None:
    first = taker()
    batch_id = await given(first, shelf)
    turn = await taken(first)
    turn.lock.close()  # as the kernel does when its holder dies
    if isinstance(first, RabbitQueue):
        await first.close()
    assert (await taken(taker())).batch_id == batch_id


async def test_what_has_ended_or_is_gone_is_nobodys_turn(taker: Taker, shelf: Shelf) -> None:
    queue = taker()
    ended, gone = await given(queue, shelf), await given(queue, shelf)
    end(shelf, ended)
    shelf.forget(gone)
    assert await nothing(queue)


async def test_a_batch_that_was_never_given_is_found_by_who_comes_next(taker: Taker, shelf: Shelf) -> None:
    batch = put(shelf)  # and the gateway is killed
    assert (await taken(taker())).batch_id == batch.batch_id


@pytest.mark.slow
async def test_a_rabbitmq_that_was_killed_keeps_what_waits_and_is_found_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    with TemporaryDirectory() as folder, own_rabbitmq(Path(folder)) as node:
        queue = RabbitQueue(shelf, node.url)
        first, second = await given(queue, shelf, 1), await given(queue, shelf, 2)
        turn = await taken(queue)
        assert turn.batch_id == first
        node.kill()
        refused = put(shelf, 3)
        with pytest.raises(OSError, match="does not answer"):
            await queue.give(refused.batch_id)
        shelf.forget(refused.batch_id)
        end(shelf, first)
        await turn.leave(True)  # it cannot be told, and need not be
        node.start()
        third = put(shelf, 4).batch_id
        held: list[Turn] = []  # a turn that nobody holds lets go of its lock
        async with asyncio.timeout(240):
            while len(held) < 2:
                try:
                    if third not in [each.batch_id for each in held]:
                        await queue.give(third)
                    held.append(await queue.next())
                except OSError:
                    await asyncio.sleep(0.2)
        assert {each.batch_id for each in held} == {second, third}
        await queue.close()


@pytest.mark.parametrize("url", ["http://guest:planted@host/", "guest:planted@host"])
def test_a_url_that_is_none_is_said_without_its_password(shelf: Shelf, url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        open_rabbitmq(shelf, url)
    assert "planted" not in str(raised.value)


async def test_a_rabbitmq_that_is_not_there_is_an_oserror_without_its_password(shelf: Shelf) -> None:
    queue = open_rabbitmq(shelf, "amqp://guest:planted@127.0.0.1:9/")
    for asked in (queue.next(), queue.give("batch-1")):
        with pytest.raises(OSError, match="does not answer") as raised:
            await asked
        assert "planted" not in str(raised.value)
