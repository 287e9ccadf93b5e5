"""The data port: OpenAI's API for clients, /health and /ready for whoever asks, /metrics for who may read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from aiohttp import web

from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.identity import ApiKey, Principal, Scope
from controlplane.gateway.adapters import adapted, passages_of
from controlplane.gateway.auditing.log import AuditLog
from controlplane.gateway.auditing.noting import turned_away
from controlplane.gateway.batches.inside import Inside
from controlplane.gateway.batches.port import BatchPort
from controlplane.gateway.call import Call, read_call
from controlplane.gateway.cards import Card, Cards
from controlplane.gateway.classes import wished
from controlplane.gateway.counts.lines import Counts
from controlplane.gateway.drain import Drain
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.fallback import fallen_back
from controlplane.gateway.feedback import PATH as FEEDBACK_PATH
from controlplane.gateway.feedback import FeedbackPort
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.metrics import Metrics
from controlplane.gateway.openai_errors import RequestRefused, error_response
from controlplane.gateway.paths import PASSED_ON
from controlplane.gateway.pipeline import Pipeline
from controlplane.gateway.pools import Route
from controlplane.gateway.routing import Routing
from controlplane.gateway.salting import kept_apart
from controlplane.gateway.settings import GatewaySettings
from controlplane.gateway.sockets import Sockets
from controlplane.gateway.stages.identity import FindsTokens, identify, require_model, require_neighbour
from controlplane.gateway.tally import Tally
from controlplane.gateway.wire import Handler

_LONGEST_NAME_TOLD = 200


class Scores(NamedTuple):
    """Where scores go, and where they are counted."""

    keep: Callable[[Feedback], None]
    counts: Counts


@dataclass(frozen=True)
class DataPort:
    """Request handlers of the data port. `monotonic` is in seconds, `wall_clock` aware UTC."""

    settings: GatewaySettings
    routing: Routing
    pipeline: Pipeline
    cards: Cards
    metrics: Metrics
    drain: Drain
    fingerprints: Fingerprints
    monotonic: Callable[[], float]
    wall_clock: Callable[[], datetime]
    tokens: FindsTokens | None = None
    audit: AuditLog | None = None
    batches: BatchPort | None = None
    inside: Inside | None = None
    sockets: Sockets | None = None
    scores: Scores | None = None

    def app(self) -> web.Application:
        app = web.Application(client_max_size=self.settings.max_body_bytes, middlewares=[self._edge])
        app.router.add_get("/health", self._health)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/ping", self._health)
        for slash in ("", "/"):
            app.router.add_get(f"/v1/models{slash}", self._models)
            for path in PASSED_ON:
                app.router.add_post(path + slash, self._serve)
        app.router.add_get("/v1/models/{name:.+}", self._model)
        if self.scores is not None:
            app.router.add_post(FEEDBACK_PATH, self._feedback(self.scores).take)
        if self.batches is not None:
            self.batches.add_to(app.router, self._key)
        if self.sockets is not None:
            self.sockets.add_to(app.router, self._key)
        if self.settings.cors_origins:
            app.on_response_prepare.append(self._allow_origin)
        return app

    def handler(self, routed: Handler) -> Handler:
        """Return what answers everything, `routed` being the application: models are asked without its router.

        Where pages of other origins may ask, each answer passes the application's signals.
        """
        if self.settings.cors_origins:
            return routed
        passed_on = frozenset(path + slash for path in PASSED_ON for slash in ("", "/"))

        async def handle(request: web.Request) -> web.StreamResponse:
            direct = request.method == "POST" and request.raw_path in passed_on and "Expect" not in request.headers
            return await (self._edge(request, self._serve) if direct else routed(request))

        return handle

    def _feedback(self, scores: Scores) -> FeedbackPort:
        name, per_minute = self.settings.name, self.settings.feedback_per_minute
        kept = (name, scores.keep, self.fingerprints, self.wall_clock)
        return FeedbackPort(*kept, self._key, scores.counts, per_minute)

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Translate refusals once, in OpenAI's shape; while draining, ask every client not to come back here."""
        try:
            response = self._preflight(request) or await handler(request)
        except RequestRefused as refusal:
            self.metrics.refuse(refusal.status, refusal.code)
            response = refusal.response()
        except web.HTTPException as error:
            self.metrics.refuse(error.status, "http")
            response = _no_such_path(request, error)
        if self.drain.began and not response.prepared:
            response.force_close()
        return response

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        at, arrived = self.wall_clock(), self.monotonic()
        key: Principal | None = None
        task = self.drain.begin()
        try:
            try:
                key = await self._key(request, at)
                exchange = await self._understood(request, key, at, arrived)
            except RequestRefused as refusal:
                if self.audit is not None:
                    self.audit.keep(turned_away(self.settings.name, at, key, request.path, refusal))
                raise
            answer = await self.pipeline(exchange)
            instead = fallen_back(exchange, answer, self.routing, self.fingerprints)
            return answer if instead is None else await self.pipeline(instead)
        finally:
            self.drain.end(task)

    async def _understood(self, request: web.Request, key: Principal | None, at: datetime, arrived: float) -> Exchange:
        """Read a request and find its route. Raises RequestRefused."""
        wished(request.headers)
        call, fields = await read_call(
            request,
            path=request.path.rstrip("/"),
            key=key,
            max_body_bytes=self.settings.max_body_bytes,
            body_within_s=self.settings.body_within_s,
            fingerprints=self.fingerprints,
            only_model=self.routing.only_model,
        )
        route = await self._route(call)
        call = kept_apart(adapted(call, route, self.cards.chance), route, self.fingerprints)
        if fields is not None and (call.adapter or call.version):
            fields = {
                **fields,
                "model": call.adapter or call.model,
            }  # what stages write or compare is what engines are asked
        tally = Tally(call=call, gateway=self.settings.name, service=route.service, at=at, arrived=arrived)
        return Exchange(request, call, route, tally, fields, passages_of(call))

    async def _route(self, call: Call) -> Route:
        route = self.routing.route_of(call.model) or await self.cards.route_of(call.model)
        if route is None:
            raise _no_table() if self.routing.table is None else _no_such_model(call.model)
        require_model(call.key, call.model, route.model)
        return route

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": await self._cards(request)})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"].rstrip("/")
        found = [card for card in await self._cards(request) if card["id"] == name]
        if not found:
            raise _no_such_model(name)
        return web.json_response(found[0])

    async def _cards(self, request: web.Request) -> list[Card]:
        key = await self._key(request)
        cards = await self.cards.all()
        return [card for card in cards if key is None or key.may_ask(card["id"]) or key.may_ask(card["parent"] or "")]

    def _preflight(self, request: web.Request) -> web.Response | None:
        """Answer a browser that asks whether a page may ask: `_allow_origin` says for which."""
        if request.method != "OPTIONS" or not self.settings.cors_origins:
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
                "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
                "Access-Control-Max-Age": "600",
            },
        )

    async def _allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if origin in self.settings.cors_origins or (origin and "*" in self.settings.cors_origins):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "*"
            response.headers["Vary"] = "Origin"

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        if self.drain.began:
            return web.json_response({"status": "draining"}, status=503)
        if not self.routing.ready:
            return web.json_response({"status": "no model has a ready replica"}, status=503)
        return web.json_response({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        """Tell them to who may read: they name services, revisions and engines, and say how much each is used."""
        await self._key(request, scope=Scope.READ)
        return self.metrics.page()

    @property
    def asks_for_keys(self) -> bool:
        """Say whether a request needs a key or a token now."""
        return self.settings.asks_for_keys or self.routing.keys_required or self.tokens is not None

    async def _key(
        self, request: web.Request, at: datetime | None = None, scope: Scope = Scope.INFER
    ) -> Principal | None:
        word = request.headers.get("Authorization", "")
        if self.inside is not None and word in self.inside.asking:
            return self.inside.asking[word]
        required = self.asks_for_keys
        now, ring = at or self.wall_clock(), self.routing.keys
        if not required and not ring:
            require_neighbour(request.headers.get("Host"), request.headers.get("Origin"), self.settings.cors_origins)
        found = await identify(request.headers, ring, required=required, now=now, tokens=self.tokens, scope=scope)
        if isinstance(found, ApiKey):
            self.routing.key_uses[found.name] = now
        return found


def _no_such_model(name: str) -> RequestRefused:
    return RequestRefused(
        404, f"The model `{name[:_LONGEST_NAME_TOLD]}` is not served here.", code="model_not_found", param="model"
    )


def _no_table() -> RequestRefused:
    text = "This gateway has no routing table yet: it was just started, and the control plane has not reached it."
    return RequestRefused(503, text, code="no_routing_table", headers={"Retry-After": "1"})


def _no_such_path(request: web.Request, error: web.HTTPException) -> web.Response:
    """As OpenAI answers it; the query stays out."""
    if error.status == 405:
        text, code = f"Not allowed to {request.method} on {request.path}", "method_not_allowed"
    else:
        text, code = f"Invalid URL ({request.method} {request.path})", "unknown_url"
    return error_response(error.status, text, code=code)
