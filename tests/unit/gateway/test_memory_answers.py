"""Kept answers take no more memory than they may, and go when their time is over."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import ExitStack

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.gateway.answers.collecting import BLOCK_BYTES, Collector, Room
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
    room = Room(2 * BLOCK_BYTES)
    small, large = Collector(6, room), Collector(5, room)
    for collector in (small, large):
        assert [await collector.feed(b"abc"), await collector.feed(b"def"), await collector.finish()] == [
            b"abc",
            b"def",
            b"",
        ]
    assert (small.body, large.body) == (b"abcdef", None)
    assert (room.taken, room.refused) == (BLOCK_BYTES, 0)


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
    assert after - before < 1.1 * room.max_bytes  # lists of blocks take something too
    assert set(whole) == {20 * piece}
    assert len(whole) + room.refused == len(streams)
    assert len(whole) == room.max_bytes // BLOCK_BYTES
    assert room.taken == 0


async def test_copies_that_make_room_for_one_another_take_nothing_new() -> None:
    room, piece = Room(1 << 20), b"data: " + b"x" * 192 + b"\n\n"
    with ExitStack() as stack:
        streams = [stack.enter_context(Collector(1 << 20, room)) for _ in range(100)]
        tracemalloc.start()
        held: list[int] = []
        for number in range(2000):  # 40 MB pass, and copies become ever fewer and larger
            for stream in streams:
                await stream.feed(piece)
            if number % 100 == 99:
                held.append(tracemalloc.get_traced_memory()[0])
        large = {each.size for each in tracemalloc.take_snapshot().traces if each.size >= BLOCK_BYTES // 2}
        tracemalloc.stop()
        left = [stream.body for stream in streams if stream.body is not None]
    assert {len(each) for each in left} == {2000 * len(piece)}
    assert room.refused == len(streams) - len(left) == 98
    assert len(large) == 1  # all of one size: whatever one lets go of fits the next
    assert max(held[1:]) - min(held[1:]) < BLOCK_BYTES


async def test_pieces_lie_over_as_many_blocks_as_they_need() -> None:
    room = Room(1 << 20)
    with Collector(1 << 20, room) as collector:
        pieces = [bytes([number]) * (number * 997) for number in range(20)]
        for piece in pieces:
            await collector.feed(piece)
        assert collector.body == b"".join(pieces)
        assert room.taken == 47 * BLOCK_BYTES
        whole = b"".join(pieces)
    with Collector(1 << 20, room) as again:  # blocks have in them what was there before
        await again.feed(b"short")
        assert again.body == b"short"
    assert (len(whole), room.taken) == (190 * 997, 0)


async def test_an_answer_that_finds_no_room_leaves_its_own_to_the_others() -> None:
    room, block = Room(2 * BLOCK_BYTES), b"x" * BLOCK_BYTES
    with Collector(1 << 20, room) as first, Collector(1 << 20, room) as second:
        for collector in (first, second, first):
            await collector.feed(block)
        assert (first.body, room.taken, room.refused) == (None, BLOCK_BYTES, 1)
        await second.feed(block)
        assert (second.body, room.taken) == (2 * block, 2 * BLOCK_BYTES)
    assert room.taken == 0


async def test_an_answer_in_one_piece_takes_its_own_size() -> None:
    room = Room(10)
    with Collector(100, room) as first, Collector(100, room) as second:
        assert [await each.whole(b"123456") for each in (first, second)] == [b"123456", b"123456"]
        assert (first.body, second.body) == (b"123456", None)
        assert (room.taken, room.refused) == (6, 1)
    assert room.taken == 0


async def test_what_is_kept_is_not_looked_through_for_garbage() -> None:
    kept = MemoryAnswers(1 << 20, At())
    gc.collect()
    before = len(gc.get_objects())
    for number in range(1000):
        await kept.put(number.to_bytes(32), an_entry(), 60)
    assert len(kept) == 1000
    assert len(gc.get_objects()) - before < 100
