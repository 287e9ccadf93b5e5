"""Whatever keeps answers keeps them alike: in memory, or in a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.gateway.answers.entry import AnswerStore, Entry
from controlplane.gateway.answers.memory import MemoryAnswers
from controlplane.gateway.answers.shared import SharedAnswers, open_redis
from tests.redis import own_redis

STREAM = Entry(b"data: \xff\x00 [DONE]\n\n", "text/event-stream; charset=utf-8", "rev-a")
PATIENT_S = 60  # a busy machine is no lost Redis
WHOLE = Entry(b"{}", "application/json", "rev-b")


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AnswerStore]:
    if request.param == "memory":
        yield MemoryAnswers(1 << 20, time.monotonic)
        return
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as redis:
        shared = SharedAnswers(open_redis(redis.url, PATIENT_S), time.monotonic)
        yield shared
        await shared.close()


async def test_what_is_put_is_found_under_its_key_alone(store: AnswerStore) -> None:
    await store.put(b"\x00a", STREAM, 60)
    await store.put(b"\x00b", WHOLE, 60)
    assert await store.get(b"\x00a") == STREAM
    assert await store.get(b"\x00b") == WHOLE
    assert await store.get(b"\x00c") is None
    assert (STREAM.events, WHOLE.events) == (True, False)


async def test_the_newest_is_kept(store: AnswerStore) -> None:
    await store.put(b"a", STREAM, 60)
    await store.put(b"a", WHOLE, 60)
    assert await store.get(b"a") == WHOLE


async def test_it_is_gone_after_its_time(store: AnswerStore) -> None:
    await store.put(b"a", STREAM, 0.001)
    found: Entry | None = STREAM
    while found is not None:
        found = await store.get(b"a")


class At:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_redis_that_is_lost_is_left_alone_for_a_while_and_never_an_error() -> None:
    clock = At()
    with TemporaryDirectory() as folder:
        with own_redis(Path(folder)) as redis:
            shared = SharedAnswers(open_redis(redis.url, PATIENT_S), clock)
            await shared.put(b"a", WHOLE, 60)
            redis.kill()
            assert await shared.get(b"a") is None
            assert shared.failing
        with own_redis(Path(folder)):
            await shared.put(b"a", WHOLE, 60)
            assert await shared.get(b"a") is None  # left alone
            clock.now = 5.1
            await shared.put(b"a", WHOLE, 60)
            assert await shared.get(b"a") == WHOLE
            assert not shared.failing
            await shared.close()


@pytest.mark.parametrize("url", ["http://user:hush@host", "hush"])
def test_a_url_of_no_redis_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        open_redis(url, PATIENT_S)
    assert "hush" not in str(raised.value)
    assert "redis://" in str(raised.value)
