"""Another model instead of a 503, where a service declares one for when it is overloaded."""

from __future__ import annotations

import json

from aiohttp import web

from controlplane.gateway.adapters import renamed
from controlplane.gateway.body import SMALL_BYTES
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.gate import Refused
from controlplane.gateway.paths import PASSED_ON, Shape
from controlplane.gateway.routing import Routing
from controlplane.gateway.salting import kept_apart
from controlplane.gateway.tally import Tally
from controlplane.gateway.upstream import FailureKind

HEADER = "X-Fleetune-Fallback"
_OVERLOADED = frozenset({Refused.FULL.value, Refused.TIMEOUT.value, FailureKind.NO_REPLICA.value})


def fallen_back(
    exchange: Exchange, answer: web.StreamResponse, routing: Routing, fingerprints: Fingerprints
) -> Exchange | None:
    """Return the same request for the model that is declared instead; None where the answer is to be given as it is.

    Only once, only before anything was sent, and only to a model that is served here and that the key may ask.
    """
    model, call, tally = exchange.route.options.fallback, exchange.call, exchange.tally
    if model is None or answer.prepared or tally.error not in _OVERLOADED:
        return None
    route = routing.route(model)
    if route is None or not route.served or PASSED_ON[call.path].shape is not Shape.JSON:
        return None
    if call.key is not None and not call.key.may_ask(model):
        return None
    other = call._replace(model=model, body=renamed(call.body, model), adapter=None, version=None)
    other = kept_apart(other, route, fingerprints)
    fields = json.loads(other.body) if len(other.body) <= SMALL_BYTES else None
    noted = Tally(call=other, gateway=tally.gateway, service=route.service, at=tally.at, arrived=tally.arrived)
    noted.headers = {HEADER: model}
    return Exchange(exchange.request, other, route, noted, fields)
