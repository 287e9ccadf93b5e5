"""Counts that several gateways share in a Redis: one script a request, so that all of them together keep a limit.

When the Redis is lost each gateway goes on with its share: a limit divided by the gateways last seen. Needs the extra
`redis`. Redis keeps the sums of days and months: give it persistence (AOF).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from controlplane.gateway.counts.lines import Kind, Line, Standing, has_passed
from controlplane.gateway.counts.local import LocalCounts
from controlplane.gateway.counts.script import SCRIPT

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger(__name__)

BEATS_EVERY_S = 2.0

MOST_REMEMBERED = 10_000

_PREFIX = "fleetune:limit:"
_GATEWAYS = "fleetune:limit-gateways"


class SharedCounts:
    """See `Counts`. `me` names this life of this gateway; `now`, in seconds, is Redis' own clock unless it is given."""

    def __init__(
        self,
        redis: Redis,
        *,
        me: str,
        monotonic: Callable[[], float],
        now: Callable[[], float] | None = None,
        gone_after_s: float = 10.0,
    ) -> None:
        self._redis = redis
        self._me = me
        self._now = now
        self._gone_after_s = gone_after_s
        self._script = redis.register_script(SCRIPT)
        self._mine = LocalCounts(monotonic)  # while Redis is lost; its places are always ours
        self._left: dict[str, float] = {}  # of sums, as Redis last said
        self._settling: set[asyncio.Task[None]] = set()
        self.gateways = 1
        self.lost = False

    async def take(self, lines: Sequence[Line]) -> Sequence[Standing]:
        """See `Counts.take`. Whoever is cancelled while Redis answers gives back what was taken."""
        asking = asyncio.ensure_future(self._take(lines))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(lambda done: self._give_back(lines, done))
            raise

    def settle(self, lines: Sequence[Line], used: Sequence[float]) -> None:
        """See `Counts.settle`; goes on in the background."""
        self._in_background(self._settle(lines, used))

    async def run(self) -> None:
        """Say that this gateway lives, count those that do, and look for a Redis that was lost; until cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(BEATS_EVERY_S)

    async def beat(self) -> None:
        """Do it once."""
        answer = await self._ask("beat", [], [])
        if answer is None:
            return
        self.gateways = max(1, int(answer[0]))
        if len(self._left) > MOST_REMEMBERED:
            self._left.clear()
        if self.lost:
            await self._return()

    async def close(self) -> None:
        """Wait for what is being settled, say good-bye and close the connections."""
        await asyncio.gather(*self._settling)
        await self._ask("leave", [], [])
        await self._redis.aclose()

    async def _take(self, lines: Sequence[Line]) -> Sequence[Standing]:
        answer = None if self.lost else await self._ask("take", lines, [line.amount for line in lines])
        if answer is None:
            return self._mine.take_now([self._share(line) for line in lines])
        *told, gateways = answer
        self.gateways = max(1, int(gateways))
        numbers = [float(each) for each in told]
        standings = [Standing(*numbers[at : at + 2]) for at in range(0, len(numbers), 2)]
        for line, standing in zip(lines, standings, strict=True):
            if line.kind is Kind.SUM:
                self._left[line.name] = standing.left
            elif line.kind is Kind.PLACES and has_passed(standings):
                self._mine.places[line.name] = self._mine.places.get(line.name, 0) + 1
        return standings

    def _share(self, line: Line) -> Line:
        """Return the line with this gateway's share of its limit: of a sum, of what was left of it."""
        left = self._left.get(line.name, line.limit) if line.kind is Kind.SUM else line.limit
        share = max(0.0, left) / self.gateways
        return replace(line, limit=max(1.0, share // 1) if line.kind is Kind.PLACES else share)

    async def _settle(self, lines: Sequence[Line], used: Sequence[float]) -> None:
        changes = [amount - line.amount for line, amount in zip(lines, used, strict=True)]
        answer = None if self.lost else await self._ask("settle", lines, changes)
        there = answer is not None
        for line, amount in zip(lines, used, strict=True):
            if not there or line.kind is Kind.PLACES:
                self._mine.settle([self._share(line)], [amount])

    async def _return(self) -> None:
        """Redis answers again: tell it what was used meanwhile, and which places are taken."""
        sums, self._mine.sums = self._mine.sums, {}
        names = [*sums, *self._mine.places]
        kinds = [Kind.SUM] * len(sums) + [Kind.PLACES] * len(self._mine.places)
        lines = [Line(name, kind, 0, 0, 40 * 86400) for name, kind in zip(names, kinds, strict=True)]
        self.lost = False
        if await self._ask("return", lines, [*sums.values(), *self._mine.places.values()]) is None:
            self._mine.sums = sums
            return
        self._left.clear()
        _log.warning("limits: Redis answers again, limits are shared by %d gateways", self.gateways)

    async def _ask(self, what: str, lines: Sequence[Line], amounts: Sequence[float]) -> list[bytes] | None:
        """Run the script; None when Redis is lost."""
        from redis.exceptions import RedisError

        now = -1.0 if self._now is None else self._now()
        arguments: list[Any] = [what, self._me, repr(now), _GATEWAYS, self._gone_after_s]
        for line, amount in zip(lines, amounts, strict=True):
            arguments += [line.kind, repr(float(line.limit)), repr(float(amount)), int(line.ends_in_s) + 1]
        try:
            answer: list[bytes] = await self._script(keys=[_PREFIX + line.name for line in lines], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            return None
        return answer

    def _lose(self, error: Exception) -> None:
        if not self.lost:
            kind = type(error).__name__
            _log.warning("limits: Redis fails (%s): this gateway keeps 1/%d of each", kind, self.gateways)
        self.lost = True

    def _give_back(self, lines: Sequence[Line], done: asyncio.Future[Sequence[Standing]]) -> None:
        if not done.cancelled() and done.exception() is None and has_passed(done.result()):
            self.settle(lines, [0.0] * len(lines))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
