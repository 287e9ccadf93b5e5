"""The class of a request, and the number an engine that schedules by priority is given for it."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.door.identity import DEFAULT_TENANT, PriorityClass
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.openai_errors import RequestRefused

PRIORITY_HEADER = "X-Priority"

PRIORITY_PATHS = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/pooling", "/classify"}
    | {"/v1/score", "/score", "/v1/rerank", "/v2/rerank", "/rerank", "/invocations"}
)
"""Whose bodies have vLLM's field `priority`: what a client writes there must never count."""
ENGINE_PRIORITY: Mapping[PriorityClass, int] = {
    PriorityClass.VIP: -10,
    PriorityClass.NORMAL: 0,
    PriorityClass.BATCH: 10,
}
"""vLLM serves lower numbers first; 0 is what requests without one have."""


def wished(headers: Mapping[str, str]) -> PriorityClass | None:
    """Return the class that a request asks for, None when it asks for none. Raises RequestRefused (400)."""
    given = headers.get(PRIORITY_HEADER)
    try:
        return None if given is None else PriorityClass(given.strip().lower())
    except ValueError as error:
        allowed = ", ".join(PriorityClass)
        raise RequestRefused(400, f"{PRIORITY_HEADER} must be one of {allowed}.", code="invalid_priority") from error


def class_of(exchange: Exchange) -> PriorityClass:
    """Return the class that is granted to who asks; the header may ask for a worse one, never for a better."""
    key = exchange.call.key
    tenant, own = (DEFAULT_TENANT, None) if key is None else (key.tenant, key.priority)
    return exchange.route.options.queue.granted(tenant, own, wished(exchange.request.headers))


def priority_of(exchange: Exchange) -> int | None:
    """Return what an engine that schedules by priority is told; None on paths whose bodies have no such field."""
    return ENGINE_PRIORITY[class_of(exchange)] if exchange.call.path in PRIORITY_PATHS else None
