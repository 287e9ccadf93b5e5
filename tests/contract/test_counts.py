"""What counts of limits do, in this process and in a real Redis: the same, to the last request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.answers.shared import open_redis
from controlplane.gateway.counts.lines import Counts, Kind, Line, has_passed
from controlplane.gateway.counts.local import LocalCounts
from controlplane.gateway.counts.shared import SharedCounts
from tests.redis import OwnRedis, own_redis


class FakeTime:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture(scope="module")
def redis() -> Iterator[OwnRedis]:
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as running:
        yield running


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest_asyncio.fixture(params=["local", "redis"])
async def counts(request: pytest.FixtureRequest, time: FakeTime) -> AsyncIterator[Counts]:
    if request.param == "local":
        yield LocalCounts(time)
        return
    client = open_redis(request.getfixturevalue("redis").url, 240)
    await client.flushall()
    shared = SharedCounts(client, me="gw", monotonic=time, now=time)
    yield shared
    await shared.close()


def rate(limit: float, amount: float = 1, name: str = "r") -> Line:
    return Line(name, Kind.RATE, limit, amount)


def total(limit: float, amount: float, name: str = "s") -> Line:
    return Line(name, Kind.SUM, limit, amount, ends_in_s=500)


def places(limit: float, name: str = "p") -> Line:
    return Line(name, Kind.PLACES, limit, 1)


async def passes(counts: Counts, *lines: Line) -> bool:
    return has_passed(await counts.take(lines))


async def settled(counts: Counts, lines: Sequence[Line], used: Sequence[float]) -> None:
    """Settle, and wait until it counts."""
    counts.settle(lines, used)
    if isinstance(counts, SharedCounts):
        for task in list(counts._settling):
            await task


async def test_a_rate_refills_steadily_and_says_how_long_to_wait(counts: Counts, time: FakeTime) -> None:
    assert [await passes(counts, rate(2)) for _ in range(3)] == [True, True, False]
    (standing,) = await counts.take([rate(2)])
    assert (standing.left, standing.wait_s) == pytest.approx((0, 30))
    time.at += 29.9
    assert not await passes(counts, rate(2))
    time.at += 0.2
    assert await passes(counts, rate(2))


async def test_all_lines_are_taken_or_none(counts: Counts) -> None:
    lines = [rate(10), total(100, 60), places(5)]
    assert await passes(counts, *lines)
    assert not await passes(counts, *lines)  # the sum has no room
    (left,) = await counts.take([rate(10)])
    assert left.left == pytest.approx(8)
    (place,) = await counts.take([places(5)])
    assert place.left == 3


async def test_what_was_not_used_comes_back_and_what_was_used_beyond_is_owed(counts: Counts, time: FakeTime) -> None:
    lines = [rate(100, 90), total(100, 90)]
    assert await passes(counts, *lines)
    await settled(counts, lines, [10, 10])
    assert await passes(counts, *lines)
    await settled(counts, lines, [200, 20])
    time.at += 59  # 90 - 200 + what refills: not yet
    assert not await passes(counts, rate(100, 1))
    time.at += 12
    assert await passes(counts, rate(100, 1))


async def test_a_request_larger_than_the_limit_passes_when_nothing_else_was_asked(counts: Counts) -> None:
    lines = [rate(60, 500), total(100, 500)]
    assert await passes(counts, *lines)
    assert not await passes(counts, rate(60, 1))
    assert not await passes(counts, total(100, 1))


async def test_a_sum_waits_for_the_end_of_its_day_and_the_next_one_is_another(counts: Counts, time: FakeTime) -> None:
    assert await passes(counts, total(10, 10, "day-1"))
    (standing,) = await counts.take([total(10, 1, "day-1")])
    assert standing.wait_s == pytest.approx(500, abs=1)
    time.at += 400
    assert not await passes(counts, total(10, 1, "day-1"))
    assert await passes(counts, total(10, 1, "day-2"))


async def test_places_come_back_when_requests_are_over(counts: Counts) -> None:
    line = places(2)
    assert [await passes(counts, line) for _ in range(3)] == [True, True, False]
    await settled(counts, [line], [0])
    assert [await passes(counts, line) for _ in range(2)] == [True, False]


async def test_a_changed_limit_of_a_rate_begins_anew(counts: Counts) -> None:
    assert [await passes(counts, rate(1)) for _ in range(2)] == [True, False]
    assert [await passes(counts, rate(3)) for _ in range(4)] == [True, True, True, False]


@given(gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60), tokens=st.integers(1, 300), limit=st.integers(1, 2000))
def test_no_stretch_of_time_lets_more_pass_than_its_share_and_a_minutes_worth(
    gaps: list[float], tokens: int, limit: int
) -> None:
    time, taken = FakeTime(), []
    of = LocalCounts(time)
    for gap in gaps:
        time.at += gap
        if has_passed(of.take_now([rate(limit, tokens)])):
            taken.append(time.at)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            share = (taken[last] - taken[first]) / 60 + 1
            assert (last - first) * tokens <= limit * share + 1e-6  # the last may find less than it needs


@given(tokens=st.integers(1, 5000), before=st.lists(st.integers(1, 900), max_size=9))
def test_after_the_time_that_was_told_it_passes(tokens: int, before: list[int]) -> None:
    time = FakeTime()
    of = LocalCounts(time)
    for each in before:
        of.take_now([rate(1000, each)])
    (standing,) = of.take_now([rate(1000, tokens)])
    time.at += standing.wait_s + 1e-6
    assert standing.wait_s == 0 or has_passed(of.take_now([rate(1000, tokens)]))


def test_callers_that_come_and_go_leave_nothing_behind() -> None:
    time = FakeTime()
    of = LocalCounts(time)
    for number in range(1000):
        of.take_now([rate(10, 1, f"r{number}"), total(10, 1, f"s{number}")])
    time.at += 2000
    of.take_now([rate(10, 1, "last")])
    assert len(of._buckets) == 1
    assert of.sums == {}


Open = Callable[[str], Awaitable[SharedCounts]]


@pytest_asyncio.fixture
async def a_gateway(redis: OwnRedis, time: FakeTime) -> AsyncIterator[Open]:
    """Return a builder of one gateway's counts in the common Redis."""
    opened: list[SharedCounts] = []
    async with open_redis(redis.url, 240) as client:
        await client.flushall()

    async def build(name: str) -> SharedCounts:
        counts = SharedCounts(open_redis(redis.url, 240), me=name, monotonic=time, now=time)
        opened.append(counts)
        await counts.beat()
        return counts

    yield build
    for each in opened:
        await each.close()


async def test_four_gateways_keep_a_limit_to_the_last_request(a_gateway: Open, time: FakeTime) -> None:
    gateways = [await a_gateway(f"gw-{number}") for number in range(4)]
    passed = 0
    for step in range(600):  # twice what is allowed, over two minutes
        time.at += 0.2
        passed += await passes(gateways[step % 4], rate(100), total(10_000, 7))
    allowed = 100 + 100 * 599 * 0.2 / 60
    assert allowed - 1 <= passed <= allowed + 1e-6


async def test_the_places_of_a_killed_gateway_come_back(a_gateway: Open, time: FakeTime) -> None:
    killed, alive = await a_gateway("gw-1"), await a_gateway("gw-2")
    assert await passes(killed, places(2))
    assert [await passes(alive, places(2)) for _ in range(2)] == [True, False]
    time.at += 11
    await alive.beat()
    assert await passes(alive, places(2))
    assert alive.gateways == 1


async def test_a_lost_redis_leaves_each_gateway_its_share(time: FakeTime) -> None:
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as redis:
        gateways = [SharedCounts(open_redis(redis.url, 240), me=f"gw-{n}", monotonic=time, now=time) for n in range(4)]
        for each in gateways:
            await each.beat()
        for each in gateways:
            assert await passes(each, total(1000, 100), rate(80, 1))
        assert [each.gateways for each in gateways] == [4] * 4
        redis.kill()
        passed = 0
        for _ in range(60):
            for each in gateways:
                passed += await passes(each, total(1000, 10), rate(80, 1))
        assert [each.lost for each in gateways] == [True] * 4
        # A quarter of the rate, and a quarter of what each last saw of the sum: 900, 800, 700 and 600, by tens.
        assert passed == 20 + 20 + 17 + 15
        for each in gateways:
            await each.close()


async def test_a_redis_that_returns_is_told_what_was_used_and_is_under_way(time: FakeTime) -> None:
    with TemporaryDirectory() as folder:
        with own_redis(Path(folder)) as redis:
            counts = SharedCounts(open_redis(redis.url, 240), me="gw", monotonic=time, now=time)
            await counts.beat()
            assert await passes(counts, places(3))
        assert await passes(counts, places(3), total(100, 40))
        assert counts.lost
        with own_redis(Path(folder)) as redis:
            await counts.beat()
            assert not counts.lost
            assert [await passes(counts, places(3)) for _ in range(2)] == [True, False]
            (standing,) = await counts.take([total(100, 1)])
            assert standing.left == 59
            await counts.close()
