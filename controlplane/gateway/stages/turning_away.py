"""503 for a request that is not to wait, or waited long enough: what its record and its client are told."""

from __future__ import annotations

from aiohttp import web

from controlplane.gateway.call import REQUEST_ID_HEADER
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.openai_errors import error_response


def turned_away(exchange: Exchange, why: str, text: str, *, retry_after_s: int) -> web.Response:
    """Return the answer; `why` is its code and the record's `error`."""
    tally = exchange.tally
    tally.status, tally.error = 503, why
    told = {REQUEST_ID_HEADER: exchange.call.request_id, "Retry-After": str(retry_after_s)}
    return error_response(503, text, code=why, headers={**tally.headers, **told})
