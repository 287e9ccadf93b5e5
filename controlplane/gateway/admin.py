"""The admin port: the control plane gives the routing table here and reads back what is used."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiohttp import web

from controlplane.domain.door.routing import RoutingTable
from controlplane.domain.errors import Conflict, FleetuneError, InvalidInput, NotFound, Refused
from controlplane.gateway.batches.troubles import Troubles
from controlplane.gateway.certificates import Certificates
from controlplane.gateway.counts.lines import Counts
from controlplane.gateway.drain import Drain
from controlplane.gateway.flights import Flights
from controlplane.gateway.last_table import read_table, save_table
from controlplane.gateway.metrics import Metrics
from controlplane.gateway.pools import Replica
from controlplane.gateway.routing import Routing
from controlplane.gateway.samples import MOST_KEPT, Samples
from controlplane.gateway.settings import GatewaySettings
from controlplane.gateway.spool import RecordSpool
from controlplane.gateway.stages.hold import Holding
from controlplane.gateway.stages.identity import same_secret
from controlplane.host.addresses import is_loopback, without_port

_log = logging.getLogger(__name__)
HELD_WAIT_S = 5.0
_LARGEST_TABLE_BYTES = 16 << 20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class AdminPort:
    """Request handlers of the admin port. `problem` is the last trouble with the saved table, for the status."""

    settings: GatewaySettings
    routing: Routing
    spool: RecordSpool
    drain: Drain
    table_path: Path
    flights: Flights
    counts: Counts
    samples: Samples
    holding: Holding
    metrics: Metrics
    problem: str | None = None
    batches: Troubles | None = None
    certificates: Certificates | None = None
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_TABLE_BYTES, middlewares=[self._edge])
        app.router.add_put("/admin/routing", self._put_routing)
        app.router.add_get("/admin/routing", self._get_routing)
        app.router.add_post("/admin/drain", self._drain)
        app.router.add_get("/admin/status", self._status)
        app.router.add_get("/admin/flights", self._flights)
        app.router.add_get("/admin/key-uses", self._key_uses)
        app.router.add_post("/admin/samples", self._take_samples)
        app.router.add_get("/admin/held", self._held)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._authorize(request)
            return await handler(request)
        except FleetuneError as error:
            return web.json_response({"error": str(error)}, status=_status_of(error))

    def _authorize(self, request: web.Request) -> None:
        if "Origin" in request.headers:  # a page in a browser of this machine is not the control plane
            raise Refused("requests from web pages are refused")
        if not self._is_here(request.host):  # a page's own name may be made to resolve to this machine
            raise Refused(
                "the request names another host", allowed=f"{self.settings.admin_host}, or an address of this machine"
            )
        token = self.settings.admin_token
        if token and not same_secret(request.headers.get("Authorization"), token.get_secret_value()):
            raise Refused("the admin token is missing or wrong", allowed="`Authorization: Bearer <token>`")

    def _is_here(self, host: str) -> bool:
        """Say whether a Host header names this port by an address, or by the name it was bound to."""
        name = without_port(host)
        if name in (self.settings.admin_host, "localhost"):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.settings.admin_host)

    async def _put_routing(self, request: web.Request) -> web.StreamResponse:
        table, unreadable = read_table(await request.read())
        async with self._taking:  # saved in the order in which they were taken
            if self.routing.take(table, unreadable) or self.problem:
                await self._save(table)
        answer = {"version": table.version, "saved": self.problem is None, "refused": dict(self.routing.refused)}
        return web.json_response(answer)

    async def _save(self, table: RoutingTable) -> None:
        """Keep the table for a restart. Serving by it matters more: trouble is reported, not raised."""
        try:
            await asyncio.to_thread(save_table, table, self.table_path)
        except OSError as error:
            self.problem = f"routing table {table.version} could not be saved: {error}"
            _log.error("%s", self.problem)
        else:
            self.problem = None

    async def _get_routing(self, request: web.Request) -> web.StreamResponse:
        if self.routing.table is None:
            raise NotFound("this gateway has no routing table yet")
        return web.Response(text=self.routing.table.model_dump_json(), content_type="application/json")

    async def _drain(self, request: web.Request) -> web.StreamResponse:
        self.drain.request()
        return web.json_response({"draining": True, "in_flight": self.drain.in_flight}, status=202)

    async def _flights(self, request: web.Request) -> web.StreamResponse:
        return web.json_response([each.model_dump(mode="json") for each in self.flights.told()])

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return self.metrics.page()

    async def _held(self, request: web.Request) -> web.StreamResponse:
        """Say whether requests wait for a first replica; while none does the answer waits for one, a few seconds."""
        return web.json_response({"held": await self.holding.any_held(HELD_WAIT_S)})

    async def _key_uses(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({name: at.isoformat() for name, at in self.routing.key_uses.items()})

    async def _take_samples(self, request: web.Request) -> web.StreamResponse:
        """Give away sampled answers of one A/B test: whoever takes them is the only one who has them."""
        taken, dropped = self.samples.take(request.query.get("test", ""), _count(request.query.get("most", "")))
        body = {"samples": [each.model_dump(mode="json") for each in taken], "dropped": dropped}
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    def _troubles(self) -> list[str]:
        """What people are to know of, one sentence each."""
        limits = "the Redis of the limits does not answer: this gateway keeps its share of each limit"
        of_batches = self.batches.told() if self.batches is not None else []
        return [*([limits] if self.counts.lost else []), *of_batches]

    def _certificates(self) -> dict[str, str]:
        ends = {} if self.certificates is None else self.certificates.ends()
        return {shown_to: end.isoformat() for shown_to, end in ends.items()}

    async def _status(self, request: web.Request) -> web.StreamResponse:
        table = self.routing.table
        return web.json_response(
            {
                "name": self.settings.name,
                "table_version": table.version if table else None,
                "ready": self.routing.ready and not self.drain.began,
                "draining": self.drain.began,
                "in_flight": self.drain.in_flight,
                "replicas": [_replica(replica) for replica in self.routing.replicas()],
                "records": {"written": self.spool.written, "dropped": self.spool.dropped},
                "problem": self.problem,
                "troubles": self._troubles(),
                "refused": dict(self.routing.refused),
                "certificates": self._certificates(),
            }
        )


def _count(given: str) -> int:
    """Raises InvalidInput."""
    if not re.fullmatch("[1-9][0-9]{0,2}", given) or int(given) > MOST_KEPT:
        raise InvalidInput("`most` is no number of samples", allowed=f"1 to {MOST_KEPT}")
    return int(given)


def _replica(replica: Replica) -> dict[str, Any]:
    return {
        "engine_id": replica.backend.engine_id,
        "revision": replica.revision,
        "in_flight": replica.in_flight,
        "put_aside": replica.breaker.failures > 0,
        "ejected": replica.breaker.ejections > 0,
    }


def _status_of(error: FleetuneError) -> int:
    statuses = {Conflict: 409, NotFound: 404, Refused: 401, InvalidInput: 422}
    return next((status for kind, status in statuses.items() if isinstance(error, kind)), 500)
