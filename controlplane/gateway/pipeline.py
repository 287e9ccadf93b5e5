"""A request's way through the gateway, in its one order.

    identity   who asks, by the headers alone                     `stages.identity`, before the body is read
    audit      notes for the audit log what became of it          `stages.audit`
    trace      makes its spans, where traces are collected        `stages.trace`
    limits     how much may be asked, or 429                      `stages.limits`
    record     notes how it went, whatever happens                `stages.record`
    fetching   refuses pictures from where no engine should go    `stages.fetching`
    screen     flags, strips or rejects what does not belong      `stages.screen`
    cache      gives an answer again, or keeps it                 `stages.cache`
    sample     keeps an answer for the judge of an A/B test       `stages.sample`
    redact     takes personal data out of the answer              `stages.redact`
    hold       waits for the first replica, or 503                `stages.hold`
    queue      waits for a place at a replica, or 503             `stages.queue`
    answer     chooses revision and replica, relays the answer    `stages.answer`

A stage takes an exchange and the rest of the way, and may act before it, after it, or instead of it. The way of a
service is put together once per routing table, of the stages that are on for it: one that is off costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from aiohttp import web

from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.pools import Route


class Stage(Protocol):
    """One step of the way. Raises RequestRefused to end it with an error in OpenAI's shape."""

    def is_on(self, route: Route) -> bool:
        """Say whether the stage has anything to do for this service."""

    def __call__(self, exchange: Exchange, rest: Next) -> Awaitable[web.StreamResponse]:
        """Do it, and go on with the rest."""


class Pipeline:
    """The stages in their order, and the answer at the end of them."""

    def __init__(self, stages: Sequence[Stage], answer: Next) -> None:
        self._stages = tuple(stages)
        self._answer = answer
        self._ways: WeakKeyDictionary[Route, Next] = WeakKeyDictionary()

    def __call__(self, exchange: Exchange) -> Awaitable[web.StreamResponse]:
        """Send one request on its way."""
        way = self._ways.get(exchange.route)
        if way is None:
            way = self._ways[exchange.route] = self._way(exchange.route)
        return way(exchange)

    def _way(self, route: Route) -> Next:
        way = self._answer
        for stage in reversed(self._stages):
            if stage.is_on(route):
                way = _before(stage.__call__, way)
        return way


def _before(step: Callable[[Exchange, Next], Awaitable[web.StreamResponse]], rest: Next) -> Next:
    """Return the way that begins with a stage. `functools.partial` takes three times as long, at every stage."""

    def way(exchange: Exchange) -> Awaitable[web.StreamResponse]:
        return step(exchange, rest)

    return way
