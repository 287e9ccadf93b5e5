"""Keeping answers of an A/B test for the service's own judge, where the tenant allows it.

Behind the screen and before the cache's hits: the judge sees what engines were asked and what the client was told,
with what was stripped and redacted gone. What a cache answers says nothing of an arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from controlplane.domain.door.identity import DEFAULT_TENANT
from controlplane.domain.door.judging import JUDGED_PATHS, Sample, Sampling, is_sampled, what_was_asked
from controlplane.gateway.answers.collecting import Collector, Room
from controlplane.gateway.answers.entry import Entry
from controlplane.gateway.answers.said import text_of
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.pools import Route
from controlplane.gateway.samples import Samples

_WIRE_BYTES_PER_TEXT_BYTE = 64
"""A stream wraps each token in an event of a few hundred bytes."""


class _Wanted(NamedTuple):
    test: str
    sample: Sample
    longest_bytes: int


@dataclass(frozen=True)
class SamplingAnswers:
    samples: Samples
    room: Room

    def is_on(self, route: Route) -> bool:
        return route.sampling is not None and route.split_by is not None

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        wanted = _wanted(exchange)
        if wanted is None:
            return await rest(exchange)
        with Collector(wanted.longest_bytes * _WIRE_BYTES_PER_TEXT_BYTE, self.room) as collector:
            exchange.passages.append(collector)
            response = await rest(exchange)
            answer = _answer(exchange, response, collector)
        if answer and len(answer.encode()) <= wanted.longest_bytes:
            self.samples.keep(wanted.test, wanted.sample.evolve(answer=answer))
        return response


def _wanted(exchange: Exchange) -> _Wanted | None:
    """Return what is to be sampled; None where it says nothing of an arm, or the tenant does not allow it."""
    call, route = exchange.call, exchange.route
    sampling, test = route.sampling, route.split_by
    tenant = call.key.tenant if call.key else DEFAULT_TENANT
    if sampling is None or test is None or tenant not in sampling.tenants or not _says_something(exchange, sampling):
        return None
    if not is_sampled(test, call.session_hash or call.request_id, sampling.sample_percent):
        return None
    asked = what_was_asked(exchange.fields or {})
    key = call.key.name if call.key else None
    return _Wanted(
        test,
        Sample(request_id=call.request_id, key=key, path=call.path, asked=asked, answer=""),
        sampling.longest_bytes,
    )


def _says_something(exchange: Exchange, sampling: Sampling) -> bool:
    call = exchange.call
    apart = exchange.sensitive or call.version is not None or call.adapter is not None or exchange.fields is None
    return not apart and call.path in JUDGED_PATHS and len(call.body) <= sampling.longest_bytes


def _answer(exchange: Exchange, response: web.StreamResponse, collector: Collector) -> str:
    tally, body = exchange.tally, collector.body
    whole = tally.status == 200 and tally.error is None and not tally.client_gone and not tally.truncated
    if not whole or not body or tally.revision is None:
        return ""
    return text_of(Entry(body, response.headers.get("Content-Type", ""), tally.revision))
