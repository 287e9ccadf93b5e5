"""Taking personal data out of what engines answer."""

from __future__ import annotations

import asyncio
from functools import lru_cache

from aiohttp import web

from controlplane.domain.door.personal import Personal, Recogniser
from controlplane.domain.door.privacy import OutputPolicy
from controlplane.domain.door.redacting import Finder
from controlplane.domain.errors import InvalidInput
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.pools import Route
from controlplane.gateway.privacy.presidio import presidio
from controlplane.gateway.privacy.redaction import Finders, Redaction

REDACTED_PATHS = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/invocations"}
    | {"/v1/audio/transcriptions", "/v1/audio/translations"}
)


class Redacting:
    """Puts a redaction in the way of each answer that says something."""

    def is_on(self, route: Route) -> bool:
        return route.options.privacy.output.is_on

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        if exchange.call.path not in REDACTED_PATHS:
            return await rest(exchange)
        redaction = Redaction(await _finder(exchange.route.options.privacy.output))
        exchange.passages.insert(0, redaction)  # before anything is kept of the answer
        try:
            return await rest(exchange)
        finally:
            exchange.tally.redacted = redaction.found


async def _finder(policy: OutputPolicy) -> Finder:
    """Raises RequestRefused (503) where Presidio is wanted and cannot be had: nothing goes out unlooked at."""
    if policy.presidio is None:
        return _recogniser(policy.redact)
    try:
        recogniser = await asyncio.to_thread(presidio, policy.presidio)  # the first time it loads for seconds
    except InvalidInput as error:
        raise RequestRefused(503, f"Answers cannot be redacted: {error}.", code="redaction_unavailable") from error
    return Finders((_recogniser(policy.redact), recogniser))


@lru_cache(maxsize=64)
def _recogniser(kinds: tuple[Personal, ...]) -> Recogniser:
    return Recogniser(kinds)
