"""Kept answers take no more memory than they may, and go when their time is over."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.gateway.answers.collecting import Collector
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
    small, large = Collector(6), Collector(5)
    for collector in (small, large):
        assert [await collector.feed(b"abc"), await collector.feed(b"def"), await collector.finish()] == [
            b"abc",
            b"def",
            b"",
        ]
    assert (small.body, large.body) == (b"abcdef", None)
