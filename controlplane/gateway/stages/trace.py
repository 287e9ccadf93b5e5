"""Tracing a request over OTLP: off, and out of the way, unless the gateway was given a collector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from controlplane.gateway.ending import NotingEnd
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.pools import Route
from controlplane.gateway.tally import Tally
from controlplane.telemetry.tracing import Ended

if TYPE_CHECKING:
    from controlplane.telemetry.requests import RequestTrace


@dataclass(frozen=True)
class Tracing:
    """`monotonic` in seconds; `begin` makes the trace of a request, None where nobody collects any."""

    begin: Callable[..., RequestTrace] | None
    monotonic: Callable[[], float]

    def is_on(self, route: Route) -> bool:
        return self.begin is not None

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        assert self.begin is not None
        tally = exchange.tally
        exchange.trace = self.begin(exchange.request.headers, at=tally.at, arrived=tally.arrived)
        try:
            with NotingEnd(tally):
                return await rest(exchange)
        finally:
            exchange.trace.end(_ended(tally, self.monotonic()))


def _ended(tally: Tally, now: float) -> Ended:
    prompt_tokens, output_tokens = tally.used
    return Ended(
        at=now,
        error=tally.error,
        queued_s=tally.queue_ms / 1000,
        first_token_at=tally.watch.first_token_at if tally.watch else None,
        told={
            "request_id": tally.call.request_id,
            "service": tally.service,
            "revision": tally.revision,
            "engine": tally.engine_id,
            "path": tally.call.path,
            "status": tally.final_status,
            "stream": tally.call.stream,
            "retries": tally.retries,
            "client_gone": tally.client_gone,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
        },
    )
