"""How much a key, a tenant and all together may ask of a model: refused with 429 before anything is spent.

Tokens and money are reserved on arrival, by the prompt's length and the longest answer asked for, and put right by what
the engine counted. Days and months are those of UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from controlplane.domain.door.gateway_options import TokenPrice
from controlplane.domain.door.identity import DEFAULT_TENANT, Limits
from controlplane.gateway.counts.lines import Counts, Kind, Line, Standing, has_passed
from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.pools import Route
from controlplane.gateway.routing import Routing


class Measure(NamedTuple):
    """One field of `Limits`, and what is counted for it."""

    field: str
    kind: Kind
    unit: str  # requests, tokens or usd
    window: str = ""  # day or month

    @property
    def told(self) -> str:
        """What it is called in a refusal."""
        return {"concurrent": "concurrent requests"}.get(self.field, self.field.replace("_", " "))


_MEASURES = (
    Measure("requests_per_minute", Kind.RATE, "requests"),
    Measure("tokens_per_minute", Kind.RATE, "tokens"),
    Measure("tokens_per_day", Kind.SUM, "tokens", "day"),
    Measure("tokens_per_month", Kind.SUM, "tokens", "month"),
    Measure("usd_per_day", Kind.SUM, "usd", "day"),
    Measure("usd_per_month", Kind.SUM, "usd", "month"),
    Measure("concurrent", Kind.PLACES, "requests"),
)
MEASURES: Mapping[str, Measure] = {each.field: each for each in _MEASURES}


class Named(NamedTuple):
    """One limit of somebody, on one day: what is made of it once and looked at with every request of that day."""

    subject: str
    measure: Measure
    line: str  # the name under which it is counted
    limit: float
    ends: datetime | None  # of a day's or month's sum
    headers: tuple[str, str, str, str] | None  # of a rate: the limit's name and value, what is left, when all is back
    of_each: Line | None  # where every request asks for the same: one


@dataclass(frozen=True)
class Limiting:
    """Lets requests pass as far as every limit on their way allows. A request is of the day in which it arrived."""

    routing: Routing
    counts: Counts

    def is_on(self, route: Route) -> bool:
        options = route.options
        return bool(self.routing.keys.limited or options.limits or options.tenant_limits or options.limits_of)

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        now = exchange.tally.at
        asked = _asked(exchange, now)
        if not asked:
            return await rest(exchange)
        lines = _lines(asked, exchange, now)
        standings = await self.counts.take(lines)
        headers = _headers(asked, standings)
        if not has_passed(standings):
            raise _refusal(asked, standings, headers)
        exchange.tally.headers = {**exchange.tally.headers, **headers}
        try:
            return await rest(exchange)
        finally:
            self.counts.settle(lines, _used(asked, exchange))


def _asked(exchange: Exchange, now: datetime) -> Sequence[Named]:
    """Return every limit on a request's way."""
    today = now.astimezone(UTC).date()
    asked: list[Named] = []
    for subject, limits in _limits(exchange):
        asked += _named_lines(subject, limits.set_ones, today)
    return asked


def _lines(asked: Sequence[Named], exchange: Exchange, now: datetime) -> list[Line]:
    """Return what the request asks of each."""
    call, price = exchange.call, exchange.route.options.price
    amounts = _amounts(call.expected_prompt_tokens, call.answer_tokens, price)
    return [named.of_each or _line(named, amounts, now) for named in asked]


def _limits(exchange: Exchange) -> Iterator[tuple[str, Limits]]:
    """Whose limits are on the way: the key's, its tenant's, the model's."""
    key, route = exchange.call.key, exchange.route
    options, tenant = route.options, key.tenant if key else DEFAULT_TENANT
    if key is not None and key.limits:
        yield f"key/{key.name}", key.limits
    of_tenant = options.limits_of.get(tenant, options.tenant_limits)
    if of_tenant:
        yield f"tenant/{route.service}/{tenant}", of_tenant
    if options.limits:
        yield f"model/{route.service}", options.limits


@lru_cache(maxsize=4096)
def _named_lines(subject: str, limits: Sequence[tuple[str, float]], today: date) -> Sequence[Named]:
    return tuple(_named(subject, MEASURES[name], limit, today) for name, limit in limits)


def _named(subject: str, measure: Measure, limit: float, today: date) -> Named:
    window, ends = _window(measure.window, today) if measure.window else ("", None)
    headers = _header_names(measure.unit, limit) if measure.kind is Kind.RATE else None
    line = f"{subject}/{measure.field}/{window}".rstrip("/")
    of_each = Line(line, measure.kind, limit, 1.0) if measure.unit == "requests" else None
    return Named(subject, measure, line, limit, ends, headers, of_each)


def _line(named: Named, amounts: Mapping[str, float | None], now: datetime) -> Line:
    measure = named.measure
    amount = amounts[measure.unit]
    if amount is None:
        raise RequestRefused(
            403, "A limit in USD is on the way, and this model has no price.", code="price_unknown", param="model"
        )
    ends_in_s = 0.0 if named.ends is None else (named.ends - now).total_seconds()
    return Line(named.line, measure.kind, named.limit, amount, ends_in_s)


def windows(now: datetime) -> frozenset[str]:
    """Return how the names of the present day's and month's sums end."""
    today = now.astimezone(UTC).date()
    return frozenset(_window(kind, today)[0] for kind in ("day", "month"))


def _window(kind: str, today: date) -> tuple[str, datetime]:
    """Return the name of the day or month that a day of UTC belongs to, and when it is over."""
    begin = datetime(today.year, today.month, today.day, tzinfo=UTC)
    if kind == "day":
        return begin.strftime("%Y-%m-%d"), begin + timedelta(days=1)
    return begin.strftime("%Y-%m"), (begin.replace(day=1) + timedelta(days=32)).replace(day=1)


def _amounts(prompt_tokens: float, output_tokens: float, price: TokenPrice | None) -> Mapping[str, float | None]:
    usd = None if price is None else price.usd(prompt_tokens, output_tokens)
    return {"requests": 1.0, "tokens": prompt_tokens + output_tokens, "usd": usd}


def _used(asked: Sequence[Named], exchange: Exchange) -> list[float]:
    """Return what the request used of each line: it was a request all the same when nothing was generated."""
    amounts = _amounts(*exchange.tally.used, exchange.route.options.price)
    return [amounts[each.measure.unit] or 0.0 for each in asked]


def _refusal(asked: Sequence[Named], standings: Sequence[Standing], headers: dict[str, str]) -> RequestRefused:
    """Return a 429 with the limit that takes longest to let the request pass."""
    worst, wait_s = max(
        ((each, standing.wait_s) for each, standing in zip(asked, standings, strict=True)), key=lambda pair: pair[1]
    )
    code = "insufficient_quota" if worst.measure.kind is Kind.SUM else "rate_limit_exceeded"
    text = f"Too many requests: the limit of {worst.measure.told} is reached. Try again in {wait_s:.3g} s."
    return RequestRefused(429, text, code=code, headers={"Retry-After": str(math.ceil(wait_s)), **headers})


def _headers(asked: Sequence[Named], standings: Sequence[Standing]) -> dict[str, str]:
    """Return what OpenAI's clients read of the subject of whose rates the smallest share is left."""
    rates = [(each, standing.left) for each, standing in zip(asked, standings, strict=True) if each.headers]
    if not rates:
        return {}
    tightest = rates[0][0].subject if len(rates) == 1 else min(rates, key=_share_left)[0].subject
    found: dict[str, str] = {}
    for named, left in rates:
        if named.subject == tightest and named.headers is not None:
            limit_name, limit, left_name, reset_name = named.headers
            found[limit_name] = limit
            found[left_name] = str(max(0, int(left)))
            found[reset_name] = f"{(named.limit - left) * 60 / named.limit:.3f}s"
    return found


def _share_left(rate: tuple[Named, float]) -> float:
    named, left = rate
    return left / named.limit


def _header_names(unit: str, limit: float) -> tuple[str, str, str, str]:
    value = f"{limit:g}" if limit != int(limit) else str(int(limit))
    return (f"x-ratelimit-limit-{unit}", value, f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}")
