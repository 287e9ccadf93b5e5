"""Kept answers take no more memory than they may, and go when their time is over."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import ExitStack

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.gateway.answers.collecting import Collector, Room
from controlplane.gateway.answers.entry import Entry
from controlplane.gateway.answers.memory import ENTRY_BYTES, MemoryAnswers

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def an_entry(size: int = 10) -> Entry:
    return Entry(b"x" * size, "application/json", "rev-a")


class At:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@QUICK
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=40))
def test_it_never_holds_more_than_it_may_and_forgets_the_longest_unused(puts: list[tuple[int, int]]) -> None:
    most = 3 * (1000 + ENTRY_BYTES)

    async def run() -> None:
        kept, sizes = MemoryAnswers(most, At()), dict[bytes, int]()
        for number, size in puts:
            key = bytes([number])
            await kept.put(key, an_entry(size), 60)
            sizes.pop(key, None)
            if size + ENTRY_BYTES <= most:
                sizes[key] = size  # the newest stands last
            while sum(sizes.values()) + len(sizes) * ENTRY_BYTES > most:
                del sizes[next(iter(sizes))]
            assert kept.bytes == sum(sizes.values()) + len(sizes) * ENTRY_BYTES <= most
        for number in range(10):
            found = await kept.get(bytes([number]))
            assert (found and len(found.body)) == sizes.get(bytes([number]))

    asyncio.run(run())


async def test_what_is_used_stays() -> None:
    kept = MemoryAnswers(2 * (10 + ENTRY_BYTES), At())
    await kept.put(b"a", an_entry(), 60)
    await kept.put(b"b", an_entry(), 60)
    assert await kept.get(b"a")
    await kept.put(b"c", an_entry(), 60)
    assert [bool(await kept.get(key)) for key in (b"a", b"b", b"c")] == [True, False, True]


async def test_what_is_too_old_is_gone() -> None:
    clock = At()
    kept = MemoryAnswers(1 << 20, clock)
    await kept.put(b"a", an_entry(), 60)
    clock.now = 59
    assert await kept.get(b"a")
    clock.now = 60
    assert await kept.get(b"a") is None
    assert (kept.bytes, len(kept)) == (0, 0)


async def test_no_memory_keeps_nothing() -> None:
    kept = MemoryAnswers(0, At())
    await kept.put(b"a", an_entry(), 60)
    assert await kept.get(b"a") is None


async def test_a_collector_passes_all_on_and_keeps_what_is_not_too_much() -> None:
    room = Room(100)
    small, large = Collector(6, room), Collector(5, room)
    for collector in (small, large):
        assert [await collector.feed(b"abc"), await collector.feed(b"def"), await collector.finish()] == [
            b"abc",
            b"def",
            b"",
        ]
    assert (small.body, large.body) == (b"abcdef", None)
    assert (room.taken, room.refused) == (6, 0)


async def test_all_collectors_together_hold_no_more_than_there_is_room() -> None:
    room, piece = Room(2 << 20), b"data: " + b"x" * 192 + b"\n\n"
    with ExitStack() as stack:
        streams = [stack.enter_context(Collector(1 << 20, room)) for _ in range(5000)]
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):  # 20 MB pass
            for stream in streams:
                assert await stream.feed(piece) == piece
                assert room.taken <= room.max_bytes
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        whole = [stream.body for stream in streams if stream.body is not None]
    assert after - before < 1.25 * room.max_bytes  # bytearrays have an eighth to spare
    assert set(whole) == {20 * piece}
    assert len(whole) + room.refused == len(streams)
    assert len(whole) == room.max_bytes // (20 * len(piece))
    assert room.taken == 0


async def test_an_answer_that_finds_no_room_leaves_its_own_to_the_others() -> None:
    room = Room(10)
    with Collector(100, room) as first, Collector(100, room) as second:
        for collector in (first, second, first):
            await collector.feed(b"1234")
        assert (first.body, room.taken, room.refused) == (None, 4, 1)
        await second.feed(b"567890")
        assert (second.body, room.taken) == (b"1234567890", 10)
    assert room.taken == 0


async def test_what_is_kept_is_not_looked_through_for_garbage() -> None:
    kept = MemoryAnswers(1 << 20, At())
    gc.collect()
    before = len(gc.get_objects())
    for number in range(1000):
        await kept.put(number.to_bytes(32), an_entry(), 60)
    assert len(kept) == 1000
    assert len(gc.get_objects()) - before < 100
