"""The load of the comparison, and what is measured of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp

from benchmarks.doors.contestants import SECRET, Door

_HEADERS = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
_asked = itertools.count()
_MARK = b'"sent_ns": '
_LOOKS = 100
BEGIN_S = 20.0
"""Streams of a long crowd begin one by one within so long, of a short one within a second."""
AFTER_S = 2 * BEGIN_S
"""Longer than memory is looked at the streams of a long crowd are."""
_MESSAGES = [{"role": "user", "content": "Say one token."}]

SHAPES: Mapping[str, bytes] = {
    "short": json.dumps({"model": "stub", "messages": _MESSAGES, "max_tokens": 1}).encode(),
    "stream32": json.dumps({"model": "stub", "messages": _MESSAGES, "max_tokens": 32, "stream": True}).encode(),
    "body100k": json.dumps(
        {"model": "stub", "messages": [{"role": "user", "content": "word " * 100_000}], "max_tokens": 1}
    ).encode(),
}


class Cost(NamedTuple):
    """What requests of one shape cost a door, many at once."""

    requests: int
    wall_s: float
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a request."""
        return self.cpu_s / self.requests * 1e6

    @property
    def per_core_s(self) -> float:
        """Requests a second that one busy core carries."""
        return self.requests / self.cpu_s


class Delay(NamedTuple):
    """Times from sending to the end of the answer, milliseconds."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Crowd:
    """Many streams that last: memory while all of them run, and how late tokens came.

    `rss_mib` is by seconds since all run; `mib_per_minute` the slope of a line through it, its first fifth left out:
    buffers find their size there. `lost` tokens never came; `refused` are
    the answers, by status, that were no stream: a stream is asked for until it begins.
    """

    streams: int
    tokens: int
    lost: int
    refused: Mapping[int, int]
    per_s: float
    rss_mib: Sequence[tuple[float, float]]
    mib_per_minute: float
    token_p99_ms: float


def slope_per_minute(rss_mib: Sequence[tuple[float, float]]) -> float:
    """Return how fast memory grows, MiB a minute, by least squares over all but the first fifth of (seconds, MiB)."""
    kept = rss_mib[len(rss_mib) // 5 :]
    return statistics.linear_regression([at for at, _ in kept], [each for _, each in kept]).slope * 60


def client() -> aiohttp.ClientSession:
    """Return a client without limits of its own."""
    forever = aiohttp.ClientTimeout(total=None)  # a crowd lasts longer than the five minutes that are the rule
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=_HEADERS, timeout=forever)


async def cost(session: aiohttp.ClientSession, door: Door, shape: str, *, requests: int, at_once: int) -> Cost:
    """Send so many requests, `at_once` at any time, and read the door's CPU time."""
    left, before, began = iter(range(requests)), door.cpu_s(), time.monotonic()

    async def one_after_the_other() -> None:
        for _ in left:
            await ask(session, door.url, SHAPES[shape])

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return Cost(requests, time.monotonic() - began, door.cpu_s() - before)


async def paced(session: aiohttp.ClientSession, url: str, shape: str, *, requests: int, rate: float | None) -> Delay:
    """Send requests at a rate per second, whatever the answers; None: one after the other."""
    took: list[float] = []

    async def one(due: float) -> None:
        await asyncio.sleep(due - time.monotonic())
        await ask(session, url, SHAPES[shape])
        took.append((time.monotonic() - due) * 1000)

    began = time.monotonic()
    if rate is None:
        for _ in range(requests):
            await one(time.monotonic())
    else:
        await asyncio.gather(*(one(began + number / rate) for number in range(requests)))
    return _delay(took)


async def ask(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    """Ask once what was never asked before, and read the answer to its end."""
    fresh = b'{"seed": %d, %b' % (next(_asked), body[1:])
    async with session.post(f"{url}/v1/chat/completions", data=fresh) as response:
        if response.status != 200:
            raise RuntimeError(f"{url} answered {response.status}: {(await response.text())[:200]}")
        await response.read()


async def crowd(session: aiohttp.ClientSession, door: Door, *, streams: int, tokens: int, per_s: float) -> Crowd:
    """Hold so many streams open, each of `tokens` at `per_s`; memory is looked at from when all run to near the end."""
    body = json.dumps({"model": "stub", "messages": _MESSAGES, "max_tokens": tokens, "stream": True}).encode()
    late: list[float] = []
    refused: Counter[int] = Counter()
    lasts_s = tokens / per_s
    begin_s = min(BEGIN_S, max(1.0, lasts_s / 60))

    async def one(number: int) -> None:
        await asyncio.sleep(begin_s * number / streams)
        while (status := await listened()) != 200:
            refused[status] += 1
            await asyncio.sleep(1)

    async def listened() -> int:
        headers = {"X-Per-S": str(per_s)}
        async with session.post(f"{door.url}/v1/chat/completions", data=body, headers=headers) as response:
            async for line in response.content:
                place = line.find(_MARK)
                if place >= 0:
                    late.append((time.monotonic_ns() - int(line[place + len(_MARK) : line.index(b"}", place)])) / 1e6)
            return response.status

    flying = asyncio.gather(*(one(number) for number in range(streams)))
    await asyncio.sleep(min(3.0, lasts_s / 4) + begin_s)
    rss_mib = await _memory(door, max(1.0, lasts_s * 0.9 - 4, lasts_s - AFTER_S))
    await flying
    return Crowd(
        streams,
        len(late),
        streams * tokens - len(late),
        refused,
        per_s,
        rss_mib,
        slope_per_minute(rss_mib),
        _delay(late).p99_ms,
    )


async def _memory(door: Door, for_s: float) -> Sequence[tuple[float, float]]:
    """Return (seconds, MiB), looked at a hundred times."""
    began, found = time.monotonic(), []
    while (at := time.monotonic() - began) < for_s:
        found.append((round(at, 2), round(door.rss_mib(), 2)))
        await asyncio.sleep(for_s / _LOOKS)
    return found


def _delay(took_ms: Sequence[float]) -> Delay:
    cuts = statistics.quantiles(took_ms, n=100)
    return Delay(cuts[49], cuts[98])


def told(value: Any) -> Any:
    """Return a measurement as JSON has it, derived figures included."""
    if isinstance(value, Cost):
        return {**value._asdict(), "cpu_us": value.cpu_us, "per_core_s": value.per_core_s}
    return value._asdict() if isinstance(value, Delay) else vars(value)
