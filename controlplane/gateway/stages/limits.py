"""How much a key, a tenant and all together may ask of a model: refused with 429 before anything is spent.

Tokens are reserved on arrival, by the prompt's length and the longest answer asked for, and put right by what the
engine counted. Each gateway counts for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from aiohttp import web

from controlplane.domain.identity import DEFAULT_TENANT, Limits
from controlplane.gateway.allowance import Allowance, Shortage
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.pools import Route
from controlplane.gateway.routing import Routing

Subject = tuple[str, ...]
"""Whose limit it is: ("key", name), ("tenant", service, name) or ("model", service)."""


@dataclass(frozen=True)
class Limiting:
    """Lets requests pass as far as every limit on their way allows. `monotonic` in seconds."""

    routing: Routing
    monotonic: Callable[[], float]
    _allowances: dict[Subject, Allowance] = field(default_factory=dict)

    def is_on(self, route: Route) -> bool:
        options = route.options
        return bool(self.routing.keys.limited or options.limits or options.tenant_limits or options.limits_of)

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        now, tokens = self.monotonic(), exchange.call.reserved_tokens
        allowances = [self._allowance(subject, limits, now) for subject, limits in _limits(exchange)]
        _require_room(allowances, tokens, now)
        for allowance in allowances:  # nothing waits between looking and taking: all of them or none
            allowance.take(tokens, now)
        if allowances:
            exchange.tally.headers = _tightest(allowances, now).headers(now)
        try:
            return await rest(exchange)
        finally:
            now, used = self.monotonic(), exchange.tally.used_tokens
            for allowance in allowances:
                allowance.settle(tokens, used, now)

    def _allowance(self, subject: Subject, limits: Limits, now: float) -> Allowance:
        """Return what is left to whom; other limits than before begin anew, with what is under way still counted."""
        present = self._allowances.get(subject)
        if present is None or present.limits != limits:
            fresh = Allowance(limits, now)
            fresh.under_way = 0 if present is None else present.under_way
            self._allowances[subject] = present = fresh
        return present


def _limits(exchange: Exchange) -> Iterator[tuple[Subject, Limits]]:
    key, route = exchange.call.key, exchange.route
    options, tenant = route.options, key.tenant if key else DEFAULT_TENANT
    if key is not None and key.limits:
        yield ("key", key.name), key.limits
    of_tenant = options.limits_of.get(tenant, options.tenant_limits)
    if of_tenant:
        yield ("tenant", route.service, tenant), of_tenant
    if options.limits:
        yield ("model", route.service), options.limits


def _require_room(allowances: list[Allowance], tokens: int, now: float) -> None:
    """Raise RequestRefused (429) with the limit that takes longest to let the request pass."""
    short = [(found, allowance) for allowance in allowances if (found := allowance.shortage(tokens, now))]
    if short:
        worst, allowance = max(short, key=lambda each: each[0].retry_after_s)
        raise _refusal(worst, allowance, now)


def _refusal(short: Shortage, allowance: Allowance, now: float) -> RequestRefused:
    headers = {"Retry-After": str(math.ceil(short.retry_after_s)), **allowance.headers(now)}
    text = f"Too many requests: the limit of {short.of} is reached. Try again in {short.retry_after_s:.3g} s."
    return RequestRefused(429, text, code="rate_limit_exceeded", headers=headers)


def _tightest(allowances: list[Allowance], now: float) -> Allowance:
    """Return the one of whose buckets the smallest share is left: that is what a client must heed."""

    def share(allowance: Allowance) -> float:
        buckets = [bucket for bucket in (allowance.requests, allowance.tokens) if bucket is not None]
        return min((bucket.left(now) / bucket.per_minute for bucket in buckets), default=1.0)

    return min(allowances, key=share)
