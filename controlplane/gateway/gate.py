"""The gate of one service: as many requests pass as its replicas take at once, the others wait in fair order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from controlplane.domain.door.fair_queue import FairQueue, Waiting
from controlplane.domain.door.identity import PriorityClass
from controlplane.domain.door.queue_options import QueueOptions

LOOKED_EVERY_S = 0.2
"""Places that a new table or an engine that recovered brings are noticed after so long, by those who wait."""
LONGEST_RETRY_S = 60
VIP_SPREAD = 2.33
"""Standard deviations beyond their mean that vips are kept places for: 99 of 100 find one. As many as are there at once
are Poisson's, whatever each of them takes (an M/G/infinity queue): their variance is their mean.
"""
_LATEST = 100  # departures by which it is judged how many vips come
_MOST_KEPT = 1 / 3  # of all places: where they are few, vips wait rather than that half of them stand idle


class Refused(StrEnum):
    """Why a request did not pass; also the record's `error`."""

    FULL = "queue_full"
    TIMEOUT = "queue_timeout"


class Turned(NamedTuple):
    """A request that did not pass, and after how many seconds asking again makes sense."""

    why: Refused
    retry_after_s: int


class Gate:
    """Belongs to one event loop. `places` says how many requests may be beyond it now; `monotonic` in seconds.

    `expects_vips`: somebody may come as a vip, so places are kept before the first one has to wait. Vips that find none
    may go beyond them, a few at a time: whoever leaves then makes room for nobody else until there are places again.
    """

    def __init__(
        self,
        options: QueueOptions,
        places: Callable[[], int],
        monotonic: Callable[[], float],
        *,
        expects_vips: bool = False,
    ) -> None:
        self.options = options
        self.in_flight = 0
        self.queue = FairQueue(options.weights, most=options.most_waiting)
        self._places = places
        self._monotonic = monotonic
        self._waiters: dict[Waiting, asyncio.Future[Refused | None]] = {}
        self._vip_seen = expects_vips
        self._vips_came = self._leaves = 0
        self._vips_per_leave = 0.0  # lately: of the places that vips alone would take, so large a share is theirs
        self._left_at: float | None = None
        self._gap_s = 1.0  # between requests that leave, lately
        self._looking: asyncio.Task[None] | None = None

    def use(self, options: QueueOptions) -> None:
        """Go on by other options, with whom is beyond the gate and who waits."""
        self.options, self.queue.weights, self.queue.most = options, options.weights, options.most_waiting
        self._admit()

    async def enter(self, one: Waiting) -> Turned | None:
        """Wait for a place. None: it was given one, which `leave` gives back."""
        if one.priority is PriorityClass.VIP:
            self._vip_seen = True
            self._vips_came += 1
        if not len(self.queue) and self._has_room(one.priority, self._places()):
            self.in_flight += 1  # nobody waits, so there is no order to keep
            return None
        waiter: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._waiters[one] = waiter
        self._turn_away(self.queue.offer(one))
        self._admit()
        if not waiter.done():
            self._keep_looking()
        try:
            async with asyncio.timeout(self.options.wait_s(one.priority)):
                refused = await waiter
        except TimeoutError:
            refused = self._withdrawn(one, waiter)
        except asyncio.CancelledError:
            if self._withdrawn(one, waiter) is None:
                self.leave()
            raise
        return None if refused is None else Turned(refused, self._retry_after_s())

    def leave(self) -> None:
        """Give a place back."""
        now = self._monotonic()
        if self._left_at is not None:
            self._gap_s += 0.1 * (now - self._left_at - self._gap_s)
        self._left_at = now
        self._leaves = min(_LATEST, self._leaves + 1)
        self._vips_per_leave += (self._vips_came - self._vips_per_leave) / self._leaves
        self._vips_came = 0
        self.in_flight -= 1
        self._admit()

    def _admit(self) -> None:
        while (one := self._next()) is not None:
            waiter = self._waiters.pop(one)
            if not waiter.cancelled():  # its client left, or its time was over, in this very moment
                self.in_flight += 1
                waiter.set_result(None)

    def _next(self) -> Waiting | None:
        if not len(self.queue):
            return None
        places = self._places()
        return self.queue.take(tuple(each for each in PriorityClass if self._has_room(each, places)))

    def _has_room(self, priority: PriorityClass, places: int) -> bool:
        """Say whether one of this class may pass: once a vip came, some places are kept from the others."""
        if priority is PriorityClass.VIP:
            return self.in_flight < places + math.ceil(places * self.options.vip_beyond_percent / 100)
        if not self._vip_seen:
            return self.in_flight < places
        return self.in_flight < places - self._kept(places)

    def _kept(self, places: int) -> int:
        """Return how many places must stay free of others: what vips need beyond their mean, at least as declared."""
        percent = self.options.vip_reserve_percent
        if not percent:
            return 0
        declared, most = math.floor(places * percent / 100), math.floor(places * _MOST_KEPT)
        if self._leaves < places:  # how many vips come shows in what leaves
            return max(declared, most)
        needed = math.ceil(VIP_SPREAD * math.sqrt(self._vips_per_leave * places))
        return max(declared, min(needed, most))

    def _turn_away(self, one: Waiting | None) -> None:
        waiter = None if one is None else self._waiters.pop(one)
        if waiter is not None and not waiter.cancelled():
            waiter.set_result(Refused.FULL)

    def _withdrawn(self, one: Waiting, waiter: asyncio.Future[Refused | None]) -> Refused | None:
        """Return how it ended for a request that waits no more; in the same moment it may have been given its place."""
        if waiter.done() and not waiter.cancelled():
            return waiter.result()
        if self._waiters.pop(one, None) is not None:
            self.queue.withdraw(one)
        return Refused.TIMEOUT

    def _retry_after_s(self) -> int:
        return max(1, min(LONGEST_RETRY_S, math.ceil(len(self.queue) * self._gap_s)))

    def _keep_looking(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        while len(self.queue):
            await asyncio.sleep(LOOKED_EVERY_S)
            self._admit()
