"""Noting for the audit what became of a request, whoever refused or answered it."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from controlplane.gateway.auditing.log import AuditLog
from controlplane.gateway.auditing.noting import happened
from controlplane.gateway.ending import NotingEnd
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.pools import Route


@dataclass(frozen=True)
class Auditing:
    """First on the way, so last to see how it went. Without a log it is off."""

    log: AuditLog | None

    def is_on(self, route: Route) -> bool:
        return self.log is not None

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        assert self.log is not None
        try:
            with NotingEnd(exchange.tally):
                return await rest(exchange)
        finally:
            self.log.keep(happened(exchange.tally))
