"""Serving one request: choose a replica, try another one while nothing was sent, pass the answer on, note it all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

import aiohttp
from aiohttp import web

from controlplane.domain.routing import GatewayRecord
from controlplane.gateway.answering import Answering
from controlplane.gateway.call import REQUEST_ID_HEADER, Call
from controlplane.gateway.choice import choose
from controlplane.gateway.openai_errors import RequestRefused, error_response
from controlplane.gateway.pools import Replica, Route
from controlplane.gateway.relay import ClientGone
from controlplane.gateway.routing import Routing
from controlplane.gateway.sessions import Sessions
from controlplane.gateway.tally import CLIENT_GONE_STATUS, Tally
from controlplane.gateway.upstream import AttemptFailed, FailureKind, open_upstream

_STOPPED = AttemptFailed(FailureKind.GATEWAY_STOPPED, 503, "The gateway was stopped before the answer began.")


@dataclass(frozen=True)
class Proxy:
    """Everything one request needs. `monotonic` is in seconds, `wall_clock` aware UTC."""

    name: str
    routing: Routing
    session: aiohttp.ClientSession
    keep: Callable[[GatewayRecord], None]
    monotonic: Callable[[], float]
    wall_clock: Callable[[], datetime]
    chance: Random
    stopping: asyncio.Event
    sessions: dict[str, Sessions] = field(default_factory=dict)  # by service

    @property
    def _answer(self) -> Answering:
        return Answering(monotonic=self.monotonic, stopping=self.stopping)

    def begin(self) -> tuple[datetime, float]:
        """Return the instant a request arrived, on both clocks."""
        return self.wall_clock(), self.monotonic()

    async def serve(self, request: web.Request, call: Call, arrival: tuple[datetime, float]) -> web.StreamResponse:
        """Serve one request. Raises RequestRefused for a model that is not routed."""
        route = self._route(call)
        at, arrived = arrival
        tally = Tally(call=call, gateway=self.name, service=route.service, at=at, arrived=arrived)
        tally.session = self._session(route, call)
        try:
            return await self._attempts(request, route, tally)
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                tally.client_left()
                raise
            return self._give_up(_STOPPED, tally)
        except ClientGone:
            tally.client_left()
            return web.Response(status=CLIENT_GONE_STATUS)  # nobody is there to read it
        finally:
            self.keep(tally.record(self.monotonic()))

    def _route(self, call: Call) -> Route:
        route = self.routing.route(call.model)
        if route is None:
            raise RequestRefused(
                404, f"The model `{call.model}` is not served here.", code="model_not_found", param="model"
            )
        return route

    def _session(self, route: Route, call: Call) -> str | None:
        """Return what keeps the request with a revision: None when there is one only, or the session is too large."""
        if call.session is None or len(route.pools) < 2:
            return None
        sessions = self.sessions.setdefault(route.service, Sessions())
        sessions.note(call.session)
        return None if sessions.dominates(call.session, route.pools) else call.session

    async def _attempts(self, request: web.Request, route: Route, tally: Tally) -> web.StreamResponse:
        """Try replicas until one begins to answer. Every attempt looks at the table of its own moment."""
        tried: set[Replica] = set()
        failure: AttemptFailed | None = None
        while True:
            route = self.routing.route(route.model) or route
            replica = self._next(route, tried, failure, tally)
            if replica is None:
                return self._give_up(failure, tally)
            if failure is not None:
                self.keep(tally.failed_attempt(status=failure.status, error=failure.kind, now=self.monotonic()))
                tally.retries += 1
            tally.sent_to(replica)
            tried.add(replica)
            answer = await self._attempt(request, replica, route, tally)
            if not isinstance(answer, AttemptFailed):
                return answer
            failure = answer

    def _next(self, route: Route, tried: set[Replica], failure: AttemptFailed | None, tally: Tally) -> Replica | None:
        if failure is not None and (not failure.retryable or tally.retries >= route.options.max_retries):
            return None
        found = self._choose(route, tried, tally)
        if found is None and failure is not None and failure.kind is FailureKind.DISCONNECTED:
            # An idle connection that closes under a request says nothing about the engine: the only one is asked again.
            return self._choose(route, set(), tally)
        return found

    def _choose(self, route: Route, tried: set[Replica], tally: Tally) -> Replica | None:
        return choose(
            route,
            session=tally.session,
            tried=tried,
            prefer=tally.revision,
            now=self.monotonic(),
            chance=self.chance,
        )

    async def _attempt(
        self, request: web.Request, replica: Replica, route: Route, tally: Tally
    ) -> web.StreamResponse | AttemptFailed:
        with replica.serving():
            opened = await open_upstream(self.session, replica, tally.call, route.options)
            if isinstance(opened, AttemptFailed):
                if opened.kind is FailureKind.CONNECT:
                    replica.failed_to_connect(self.monotonic())
                return opened
            replica.answered()
            try:
                return await self._answer.pass_on(request, opened, tally, stall_s=route.options.stall_timeout_s)
            finally:
                opened.close()

    def _give_up(self, failure: AttemptFailed | None, tally: Tally) -> web.Response:
        if failure is None:
            failure = AttemptFailed(FailureKind.NO_REPLICA, 503, f"No replica of `{tally.call.model}` is ready.")
        tally.status, tally.error = failure.status, failure.kind
        retry_after = {"Retry-After": "1"} if failure.status == 503 else {}
        headers = {REQUEST_ID_HEADER: tally.call.request_id} | retry_after
        return error_response(failure.status, failure.message, code=failure.kind, headers=headers)
