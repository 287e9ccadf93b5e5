"""The policy on what comes in: flags, strips or rejects what does not belong in a request's texts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from controlplane.domain.door.privacy import Action, InputPolicy
from controlplane.domain.door.screening import Found, Screened, is_clearly_clean, rejected, screened
from controlplane.gateway.body import is_long_text
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.paths import PASSED_ON, Shape
from controlplane.gateway.pools import Route
from controlplane.gateway.privacy.injection import look_for_injection
from controlplane.gateway.privacy.requests import Texts, read_long_text, read_texts, texts_of, written

FLAGGED_HEADER = "X-Fleetune-Flagged"

_PERSONAL_BYTES = 8 << 10
"""Up to here personal data is looked for on the spot: 60 KB of groups of digits take 58 ms, each may begin a number."""


@dataclass(frozen=True)
class Screening:
    """Looks at what comes in before anything else does. The session is for classifiers."""

    session: aiohttp.ClientSession

    def is_on(self, route: Route) -> bool:
        return route.options.privacy.input.is_on

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        if PASSED_ON[exchange.call.path].shape is not Shape.JSON:
            return await rest(exchange)
        policy = exchange.route.options.privacy.input
        texts, found, body = await _looked_at(exchange, policy)
        if policy.injection.action is not Action.OFF and not rejected(found, policy):
            said = [holder[key] for holder, key in texts.places]
            found |= await look_for_injection(said, policy.injection, self.session) if said else frozenset()
        _note(exchange, found, policy)
        if body is not None:
            exchange.replace_body(body)
        return await rest(exchange)


async def _looked_at(exchange: Exchange, policy: InputPolicy) -> tuple[Texts, frozenset[Found], bytes | None]:
    try:
        fields = exchange.fields
        if fields is not None and (policy.personal is Action.OFF or len(exchange.call.body) <= _PERSONAL_BYTES):
            return _look(texts_of(fields), policy)
        if fields is not None:
            return await asyncio.to_thread(lambda: _look(texts_of(fields), policy))
        if (clean := _clearly_clean(exchange.call.body, policy)) is not None:
            return clean, frozenset(), None
        return await asyncio.to_thread(lambda: _look(read_texts(exchange.call.body), policy))
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, "The body is not valid JSON, or nested too deeply.", code="invalid_json") from error


def _clearly_clean(body: bytes, policy: InputPolicy) -> Texts | None:
    """Return the texts of a long one in which there is evidently nothing; a thread looks at all others."""
    texts = read_long_text(body) if is_long_text(body) else None
    if texts is None or texts.token_ids:
        return None
    return texts if all(is_clearly_clean(holder[key], policy) for holder, key in texts.places) else None


def _look(texts: Texts, policy: InputPolicy) -> tuple[Texts, frozenset[Found], bytes | None]:
    """Return the texts, what was found in them, and the body without what is to be stripped, None for as it was."""
    found: set[Found] = {Found.TOKEN_IDS} if texts.token_ids and policy.token_ids is not Action.OFF else set()
    changed = False
    for holder, key in texts.places:
        result: Screened = screened(holder[key], policy)
        found |= result.found
        if result.text != holder[key]:
            holder[key], changed = result.text, True
    return texts, frozenset(found), written(texts.fields) if changed else None


def _note(exchange: Exchange, found: frozenset[Found], policy: InputPolicy) -> None:
    """Raise RequestRefused (400) for what is rejected; else note it where the client and the operator see it."""
    if not found:
        return
    exchange.tally.flags = tuple(what.value for what in Found if what in found)
    exchange.sensitive = True
    refused = rejected(found, policy)
    if refused:
        text = f"This service's policy refuses the request: {', '.join(refused)}."
        raise RequestRefused(400, text, code="policy_violation", param=refused[0].value)
    exchange.tally.headers = {**exchange.tally.headers, FLAGGED_HEADER: ", ".join(exchange.tally.flags)}
