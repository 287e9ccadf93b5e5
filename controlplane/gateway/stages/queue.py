"""Waiting for a place at a replica, by class and fairly between tenants, where the service says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from controlplane.domain.door.fair_queue import Waiting
from controlplane.domain.door.identity import DEFAULT_TENANT, PriorityClass
from controlplane.gateway.classes import class_of
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.gate import Gate, Refused
from controlplane.gateway.pools import Route
from controlplane.gateway.routing import Routing
from controlplane.gateway.stages.turning_away import turned_away

_NO_LIMIT = 1 << 30
_TOLD = {
    Refused.FULL: "Too many requests wait already.",
    Refused.TIMEOUT: "No replica had a place for this request in time.",
}


@dataclass(frozen=True)
class Queueing:
    """Holds requests back. `monotonic` in seconds; `gateways` is how many share the replicas, this one among them."""

    routing: Routing
    monotonic: Callable[[], float]
    gateways: Callable[[], int]
    gates: dict[str, Gate] = field(default_factory=dict)  # by service

    def is_on(self, route: Route) -> bool:
        return route.options.queue.enabled and any(pool.concurrency_limit for pool in route.pools)

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        gate, tally = self._gate(exchange.route), exchange.tally
        call, began = exchange.call, self.monotonic()
        tenant = call.key.tenant if call.key else DEFAULT_TENANT
        turned = await gate.enter(Waiting(tenant, class_of(exchange), max(1, call.reserved_tokens)))
        tally.queue_ms += (self.monotonic() - began) * 1000
        if turned is not None:
            return turned_away(exchange, turned.why.value, _TOLD[turned.why], retry_after_s=turned.retry_after_s)
        try:
            return await rest(exchange)
        finally:
            gate.leave()

    def _gate(self, route: Route) -> Gate:
        found = self.gates.get(route.service)
        if found is None:
            queue, model = route.options.queue, route.model
            vips = self.routing.keys.vips or PriorityClass.VIP in queue.classes.values()
            found = Gate(queue, lambda: self._places(model), self.monotonic, expects_vips=vips)
            self.gates[route.service] = found
        elif found.options is not route.options.queue:  # of a newer table
            found.use(route.options.queue)
        return found

    def _places(self, model: str) -> int:
        """Return how many requests all replicas that get traffic take at once, this gateway's share of them.

        Without a replica, or where a limit is unknown, nobody is held back: waiting would not help.
        """
        route, places, now = self.routing.route(model), 0, self.monotonic()
        for pool in route.pools if route else ():
            if pool.weight_percent and pool.replicas:
                if pool.concurrency_limit is None:
                    return _NO_LIMIT
                places += pool.concurrency_limit * len(pool.usable(now) or pool.replicas)
        return max(1, places // max(1, self.gateways())) if places else _NO_LIMIT
