"""The end of the way: choose a replica, try another one while nothing was sent, and pass the answer on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from aiohttp import web

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.gateway.adapters import engines_of
from controlplane.gateway.answering import BROKEN, REPORTED, Answering
from controlplane.gateway.call import REQUEST_ID_HEADER, Call
from controlplane.gateway.choice import choose
from controlplane.gateway.engine_connections import EngineConnections
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.for_engine import for_engine
from controlplane.gateway.openai_errors import error_response
from controlplane.gateway.paces import Paces, samples_of
from controlplane.gateway.pools import Replica, Route
from controlplane.gateway.relay import Cut
from controlplane.gateway.routing import Routing
from controlplane.gateway.sessions import Sessions
from controlplane.gateway.tally import Tally
from controlplane.gateway.upstream import AttemptFailed, FailureKind, open_upstream

ENGINE_FAULTS = frozenset({BROKEN, REPORTED, Cut.TRUNCATED.value, Cut.STALLED.value})
"""Ends of an answer that began, for which its replica is to blame."""


@dataclass(frozen=True)
class Answer:
    """Gets an answer from some replica. `monotonic` in seconds; `keep` takes the records of failed attempts."""

    routing: Routing
    engines: EngineConnections
    keep: Callable[[GatewayRecord], None]
    monotonic: Callable[[], float]
    chance: Random
    stopping: asyncio.Event
    sessions: dict[str, Sessions] = field(default_factory=dict)  # by service
    paces: dict[tuple[str, RevisionId], Paces] = field(default_factory=dict)  # by service, of its present revisions

    @cached_property
    def _answering(self) -> Answering:
        return Answering(monotonic=self.monotonic, stopping=self.stopping)

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Try replicas until one begins to answer. Every attempt looks at the table of its own moment."""
        route, tally = exchange.route, exchange.tally
        exchange.fields = None  # nobody asks any more, and streams last
        tally.session = self._session(route, exchange.call, tally)
        tried: set[Replica] = set()
        failure: AttemptFailed | None = None
        while True:
            route = self.routing.route(route.model) or route
            replica = self._next(route, tried, failure, tally)
            if replica is None:
                return give_up(failure, tally)
            if failure is not None:
                self.keep(tally.failed_attempt(status=failure.status, error=failure.kind, now=self.monotonic()))
                tally.retries += 1
            heeds = route.heeds_prefixes
            weight = route.weight_percent(replica.revision)
            tally.sent_to(replica, weight, now=self.monotonic(), heeds_prefixes=heeds)
            tried.add(replica)
            answer = await self._attempt(exchange, replica, route)
            if not isinstance(answer, AttemptFailed):
                return answer
            failure = answer

    def _session(self, route: Route, call: Call, tally: Tally) -> str | None:
        """Return what keeps the request with a revision: None when there is one only, or the session is too large.

        In an A/B test no session is too large: a user in two arms would say nothing of either.
        """
        if call.session is None:
            return None
        if route.split_by is not None:
            return call.session if len(route.pools) > 1 else None
        sessions = self.sessions.setdefault(route.service, Sessions())
        sessions.note(call.session)
        tally.split_up = sessions.is_large(call.session, route.pools)
        alone = len(route.pools) < 2 or sessions.dominates(call.session, route.pools)
        return None if alone else call.session

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
            blocks=tally.call.prompt.blocks if route.heeds_prefixes else (),
            only=engines_of(tally.call, route),
        )

    async def _attempt(self, exchange: Exchange, replica: Replica, route: Route) -> web.StreamResponse | AttemptFailed:
        request, tally = exchange.request, exchange.tally
        with replica.serving(exchange.call.reserved_tokens) as probe:
            call, begun = self._traced(exchange, replica), self.monotonic()
            opened = await open_upstream(self.engines, replica, call, route.options)
            if isinstance(opened, AttemptFailed):
                if exchange.trace is not None:
                    exchange.trace.attempt_failed(opened.kind, now=self.monotonic())
                self._note_failure(replica, opened, probe=probe)
                return opened
            replica.breaker.connected()
            if route.heeds_prefixes:  # the prompt is in its cache from now on
                replica.prefixes.learn(tally.call.prompt.blocks)
            try:
                answer = await self._answering.pass_on(
                    request, opened, tally, passages=exchange.passages, stall_s=route.options.stall_timeout_s
                )
            finally:
                self.engines.give_back(replica.backend.url, opened.connection)
            self._note_end(replica, tally, self._is_slow(replica, route, tally, begun), probe=probe)
            return answer

    def _traced(self, exchange: Exchange, replica: Replica) -> Call:
        """Return what the engine is sent: with the trace it is to go on with, where there is one."""
        call = for_engine(exchange, replica.backend)
        if exchange.trace is None:
            return call
        headers = call.headers.copy()
        engine = replica.backend.engine_id
        headers.update(exchange.trace.attempt(now=self.monotonic(), engine=engine, revision=replica.revision))
        return call._replace(headers=headers)

    def _note_failure(self, replica: Replica, failure: AttemptFailed, *, probe: bool) -> None:
        if failure.kind is FailureKind.CONNECT:
            replica.breaker.failed_to_connect(self.monotonic())
            return
        replica.breaker.connected()
        replica.breaker.failed(self.monotonic(), probe=probe)

    def _is_slow(self, replica: Replica, route: Route, tally: Tally, begun: float) -> bool | None:
        """Say whether a good answer took far longer than other replicas' do; None where there are none to compare."""
        if tally.error is not None or not route.has_others(replica):
            return None
        named = (route.service, replica.revision)
        if named not in self.paces:
            present = {(route.service, pool.revision) for pool in route.pools}
            for former in [each for each in self.paces if each[0] == route.service and each not in present]:
                del self.paces[former]
        paces = self.paces.setdefault(named, Paces())
        return paces.is_slow(replica.backend.engine_id, samples_of(tally, begun), self.monotonic())

    def _note_end(self, replica: Replica, tally: Tally, slow: bool | None, *, probe: bool) -> None:
        """What the engine refused (4xx) it answered well; what the drain cut says nothing."""
        if tally.error in ENGINE_FAULTS:
            replica.breaker.failed(self.monotonic(), probe=probe)
        elif tally.error != Cut.GATEWAY_STOPPED:
            replica.breaker.went_well(self.monotonic(), probe=probe, slow=slow)


def give_up(failure: AttemptFailed | None, tally: Tally) -> web.Response:
    """Return the error of the last attempt, or that there was none to make, and note it."""
    if failure is None:
        failure = AttemptFailed(FailureKind.NO_REPLICA, 503, f"No replica of `{tally.call.model}` is ready.")
    tally.status, tally.error = failure.status, failure.kind
    retry_after = {"Retry-After": "1"} if failure.status == 503 else {}
    headers = {REQUEST_ID_HEADER: tally.call.request_id, **tally.headers, **retry_after}
    return error_response(failure.status, failure.message, code=failure.kind, headers=headers)
