"""Holding requests while the first replica of a service that scaled to zero starts. What is held is what wakes it.

It is in flight, and of no revision: that is how the controller learns of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web

from controlplane.domain.door.hold_options import HoldOptions
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.pools import Route
from controlplane.gateway.routing import Routing
from controlplane.gateway.stages.turning_away import turned_away

LOOK_EVERY_S = 0.1
RETRY_AFTER_S = 10


class NotHeld(StrEnum):
    """Why a request was not held, or not any longer; also the record's `error`."""

    FULL = "start_full"
    TIMEOUT = "start_timeout"


_TOLD = {
    NotHeld.FULL: "The first replica starts, and enough requests wait for it.",
    NotHeld.TIMEOUT: "The first replica did not start in time.",
}


@dataclass(frozen=True)
class Holding:
    """`monotonic` in seconds."""

    routing: Routing
    monotonic: Callable[[], float]
    held: Counter[str] = field(default_factory=Counter)  # by service
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def is_on(self, route: Route) -> bool:
        return route.hold is not None

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        refused = None if self._served(exchange.route.model) else await self._wait(exchange)
        if refused is None:
            return await rest(exchange)
        return turned_away(exchange, refused.value, _TOLD[refused], retry_after_s=RETRY_AFTER_S)

    async def _wait(self, exchange: Exchange) -> NotHeld | None:
        """Return None once a replica can take it."""
        route, began = exchange.route, self.monotonic()
        hold = route.hold
        assert hold is not None, "the stage is off without"
        if self.held[route.service] >= hold.most:
            return NotHeld.FULL
        self.held[route.service] += 1
        self._arrived.set()
        try:
            return await self._until_served(route.model, hold, began)
        finally:
            self.held[route.service] -= 1
            exchange.tally.queue_ms += (self.monotonic() - began) * 1000

    async def _until_served(self, model: str, hold: HoldOptions, began: float) -> NotHeld | None:
        while not self._served(model):
            if self.monotonic() - began >= hold.wait_s:
                return NotHeld.TIMEOUT
            await self.routing.changed(LOOK_EVERY_S)
        return None

    async def any_held(self, within_s: float) -> bool:
        """Return True once a request is held, False when none was within so many seconds."""
        if not self.held.total():
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), within_s)
        return self.held.total() > 0

    def _served(self, model: str) -> bool:
        route = self.routing.route(model)
        return route is not None and route.served
