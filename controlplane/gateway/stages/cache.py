"""Giving an answer again that was given before, and keeping one that may be.

An answer is known by tenant, service and the revision that leads: what a canary answers is not kept, and once another
revision leads, by promotion or roll-back, the former one's answers are not found any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from controlplane.domain.door.caching import CHAT_PATH, CacheMode, CacheWish, Partition, cache_key, may_be_cached
from controlplane.domain.door.identity import DEFAULT_TENANT
from controlplane.domain.door.routing import CacheResult
from controlplane.domain.door.similar import SemanticOptions
from controlplane.gateway.answers.collecting import Collector, Room
from controlplane.gateway.answers.entry import AnswerStore, Entry
from controlplane.gateway.answers.replaying import CACHE_HEADER, replay
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.pools import Route
from controlplane.gateway.tally import Tally

if TYPE_CHECKING:
    from controlplane.gateway.answers.alike import Alike
    from controlplane.gateway.answers.questions import Question


class Plan(NamedTuple):
    """A request whose answer may be looked up and kept."""

    partition: Partition
    key: bytes
    wish: CacheWish | None


@dataclass(frozen=True)
class Caching:
    """Answers from the store where it can. `monotonic` in seconds; `alike` gives what finds questions that sound alike.

    It is loaded when a service first wants it: it brings numpy into the process. `room` bounds the answers under way.
    """

    store: AnswerStore
    room: Room
    monotonic: Callable[[], float]
    alike: Callable[[], Alike]

    def is_on(self, route: Route) -> bool:
        return route.options.cache.mode is not CacheMode.OFF

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        plan = _plan(exchange)
        if plan is None:
            return await rest(exchange)
        entry = None if plan.wish is CacheWish.REFRESH else await self.store.get(plan.key)
        if entry is not None:
            return await replay(exchange, entry, CacheResult.HIT, self.monotonic)
        semantic = exchange.route.options.cache.semantic
        if semantic is None or exchange.call.path != CHAT_PATH:
            return (await self._ask(exchange, rest, plan))[0]
        return await self._sounding_alike(exchange, rest, plan, semantic)

    async def _sounding_alike(
        self, exchange: Exchange, rest: Next, plan: Plan, semantic: SemanticOptions
    ) -> web.StreamResponse:
        """Look for a question that sounds alike; a share of those found is asked nevertheless, to see what it says."""
        alike = await asyncio.to_thread(self.alike)
        question = await alike.read(plan.partition, exchange.call.query, exchange.fields or {}, plan.key, semantic)
        found = None
        if question is not None and plan.wish is not CacheWish.REFRESH:
            found = alike.find(question, semantic)
        kept = await self.store.get(found.key) if found else None
        if kept is not None and not alike.is_checked(semantic):
            return await replay(exchange, kept, CacheResult.SIMILAR, self.monotonic)
        response, entry = await self._ask(exchange, rest, plan)
        if question is not None and entry is not None:
            alike.remember(question, semantic)
            if found is not None and kept is not None:
                await _compare(exchange, alike, found, kept, entry)
        return response

    async def _ask(self, exchange: Exchange, rest: Next, plan: Plan) -> tuple[web.StreamResponse, Entry | None]:
        """Let an engine answer, and keep what it says where it is whole."""
        options, tally = exchange.route.options.cache, exchange.tally
        tally.cache = CacheResult.MISS
        tally.headers = {**tally.headers, CACHE_HEADER: CacheResult.MISS}
        with Collector(options.largest_answer_bytes, self.room) as collector:
            exchange.passages.append(collector)
            response = await rest(exchange)
            body = collector.body
        if not body or not _is_good(tally) or tally.revision != plan.partition.revision:
            return response, None
        entry = Entry(body, response.headers["Content-Type"], plan.partition.revision)
        await self.store.put(plan.key, entry, options.ttl_s)
        return response, entry


async def _compare(exchange: Exchange, alike: Alike, found: Question, kept: Entry, entry: Entry) -> None:
    """Note whether what would have been given is what the engine said; forget it where it is not."""
    semantic = exchange.route.options.cache.semantic
    same = None if semantic is None else await alike.say_the_same(kept, entry, semantic)
    if same is None:
        return
    exchange.tally.cache = CacheResult.CHECKED_SAME if same else CacheResult.CHECKED_DIFFERENT
    if not same:
        alike.forget(found)


def _is_good(tally: Tally) -> bool:
    """Only an answer that came to its end, and that its client took to its end, is known to be whole."""
    return tally.status == 200 and tally.error is None and not tally.client_gone and not tally.truncated


def _partition(exchange: Exchange) -> Partition:
    key, route = exchange.call.key, exchange.route
    return Partition(key.tenant if key else DEFAULT_TENANT, route.service, route.leading)


def _plan(exchange: Exchange) -> Plan | None:
    """Return how to look a request up; None when its answer may not be kept. Raises RequestRefused (400)."""
    wish, call, options = _wish(exchange.request), exchange.call, exchange.route.options.cache
    if wish is None and options.mode is CacheMode.ON_REQUEST:
        return None
    partition = _partition(exchange)
    unkept = exchange.sensitive or not partition.revision or call.version is not None
    fields = None if unkept else exchange.fields
    if fields is None or not may_be_cached(options, call.path, fields, wish):
        return None
    return Plan(partition, cache_key(partition, call.path, call.query, fields), wish)


def _wish(request: web.Request) -> CacheWish | None:
    """Read the caller's header. Raises RequestRefused (400) for a word that says nothing."""
    said = request.headers.get(CACHE_HEADER)
    if said is None:
        return None
    try:
        return CacheWish(said.strip().lower())
    except ValueError:
        allowed = ", ".join(CacheWish)
        text = f"The header `{CACHE_HEADER}` is none of: {allowed}."
        raise RequestRefused(400, text, code="invalid_header", param=CACHE_HEADER) from None
