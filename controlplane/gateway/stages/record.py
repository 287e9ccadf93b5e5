"""Writing down how a request went, whatever happened to it on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from controlplane.domain.door.routing import GatewayRecord
from controlplane.gateway.ending import NotingEnd
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.flights import Flights
from controlplane.gateway.pools import Route
from controlplane.gateway.relay import ClientGone
from controlplane.gateway.stages.answer import give_up
from controlplane.gateway.tally import CLIENT_GONE_STATUS
from controlplane.gateway.upstream import AttemptFailed, FailureKind

_STOPPED = AttemptFailed(FailureKind.GATEWAY_STOPPED, 503, "The gateway was stopped before the answer began.")


@dataclass(frozen=True)
class Recording:
    """Keeps one record per request. `monotonic` in seconds; `stopping` is set when the drain's time is over."""

    keep: Callable[[GatewayRecord], None]
    monotonic: Callable[[], float]
    stopping: asyncio.Event
    flights: Flights

    def is_on(self, route: Route) -> bool:
        return True

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        tally = exchange.tally
        try:
            with NotingEnd(tally):
                return await self._flown(exchange, rest)
        except ClientGone:
            return web.Response(status=CLIENT_GONE_STATUS)  # nobody is there to read it
        finally:
            self.keep(tally.record(self.monotonic()))

    async def _flown(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        self.flights.began(exchange.tally)
        try:
            return await rest(exchange)
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            return give_up(_STOPPED, exchange.tally)
        finally:
            self.flights.ended(exchange.tally)
