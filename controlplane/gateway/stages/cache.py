"""Giving an answer again that was given before, and keeping one that may be.

An answer is known by tenant, service and the revision that leads: what a canary answers is not kept, and once another
revision leads, by promotion or roll-back, the former one's answers are not found any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from controlplane.domain.caching import CacheMode, CacheWish, Partition, cache_key, may_be_cached
from controlplane.domain.identity import DEFAULT_TENANT
from controlplane.domain.routing import CacheResult
from controlplane.gateway.answers.collecting import Collector
from controlplane.gateway.answers.entry import AnswerStore, Entry
from controlplane.gateway.answers.replaying import CACHE_HEADER, replay
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.pools import Route
from controlplane.gateway.tally import Tally


@dataclass(frozen=True)
class Caching:
    """Answers from the store where it can. `monotonic` in seconds."""

    store: AnswerStore
    monotonic: Callable[[], float]

    def is_on(self, route: Route) -> bool:
        return route.options.cache.mode is not CacheMode.OFF

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        wish = _wish(exchange.request)
        partition = _partition(exchange)
        key = _key(exchange, partition, wish)
        if key is None:
            return await rest(exchange)
        entry = None if wish is CacheWish.REFRESH else await self.store.get(key)
        if entry is not None:
            return await replay(exchange, entry, CacheResult.HIT, self.monotonic)
        return await self._ask(exchange, rest, key, partition)

    async def _ask(self, exchange: Exchange, rest: Next, key: bytes, partition: Partition) -> web.StreamResponse:
        options, tally = exchange.route.options.cache, exchange.tally
        tally.cache = CacheResult.MISS
        tally.headers = {**tally.headers, CACHE_HEADER: CacheResult.MISS}
        collector = Collector(options.largest_answer_bytes)
        exchange.passages.append(collector)
        response = await rest(exchange)
        body = collector.body
        if body and _is_good(tally) and tally.revision == partition.revision:
            entry = Entry(body, response.headers["Content-Type"], partition.revision)
            await self.store.put(key, entry, options.ttl_s)
        return response


def _is_good(tally: Tally) -> bool:
    """Only an answer that came to its end, and that its client took to its end, is known to be whole."""
    return tally.status == 200 and tally.error is None and not tally.client_gone and not tally.truncated


def _partition(exchange: Exchange) -> Partition:
    key, route = exchange.call.key, exchange.route
    leading = max(route.pools, key=lambda pool: pool.weight_percent, default=None)
    return Partition(key.tenant if key else DEFAULT_TENANT, route.service, leading.revision if leading else "")


def _key(exchange: Exchange, partition: Partition, wish: CacheWish | None) -> bytes | None:
    """Return the request's key; None when its answer may not be kept."""
    call, options = exchange.call, exchange.route.options.cache
    fields = None if exchange.sensitive or not partition.revision else exchange.small_fields()
    if fields is None or not may_be_cached(options, call.path, fields, wish):
        return None
    return cache_key(partition, call.path, call.query, fields)


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
