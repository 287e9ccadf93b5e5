"""The data port: OpenAI's API for clients, /health, /ready and /metrics for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from controlplane.domain.identity import ApiKey
from controlplane.gateway.call import Call, read_call
from controlplane.gateway.drain import Drain
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.metrics import Metrics
from controlplane.gateway.openai_errors import RequestRefused, error_response
from controlplane.gateway.pipeline import Pipeline
from controlplane.gateway.pools import Route
from controlplane.gateway.routing import Routing
from controlplane.gateway.settings import Settings
from controlplane.gateway.stages.identity import identify, require_model
from controlplane.gateway.tally import Tally

PASSED_ON = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class DataPort:
    """Request handlers of the data port. `monotonic` is in seconds, `wall_clock` aware UTC."""

    settings: Settings
    routing: Routing
    pipeline: Pipeline
    metrics: Metrics
    drain: Drain
    fingerprints: Fingerprints
    monotonic: Callable[[], float]
    wall_clock: Callable[[], datetime]

    def app(self) -> web.Application:
        app = web.Application(client_max_size=self.settings.max_body_bytes, middlewares=[self._edge])
        app.router.add_get("/health", self._health)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        for path in PASSED_ON:
            app.router.add_post(path, self._serve)
        return app

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Translate refusals once, in OpenAI's shape; while draining, ask every client not to come back here."""
        try:
            response = await handler(request)
        except RequestRefused as refusal:
            self.metrics.refuse(refusal.status, refusal.code)
            response = refusal.response()
        except web.HTTPException as error:
            self.metrics.refuse(error.status, "http")
            response = error_response(error.status, f"{error.reason}: {request.method} here.", code="not_found")
        if self.drain.began and not response.prepared:
            response.force_close()
        return response

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        at, arrived = self.wall_clock(), self.monotonic()
        key = self._key(request)
        with self.drain.busy():
            limit = self.settings.max_body_bytes
            call = await read_call(request, key=key, max_body_bytes=limit, fingerprints=self.fingerprints)
            route = self._route(call)
            require_model(key, route.model)
            tally = Tally(call=call, gateway=self.settings.name, service=route.service, at=at, arrived=arrived)
            return await self.pipeline(Exchange(request, call, route, tally))

    def _route(self, call: Call) -> Route:
        route = self.routing.route(call.model)
        if route is None:
            raise RequestRefused(
                404, f"The model `{call.model}` is not served here.", code="model_not_found", param="model"
            )
        return route

    async def _models(self, request: web.Request) -> web.StreamResponse:
        key = self._key(request)
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "fleetune"}
            for name in self.routing.models()
            if key is None or key.may_ask(name)
        ]
        return web.json_response({"object": "list", "data": models})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        if self.drain.began:
            return web.json_response({"status": "draining"}, status=503)
        if not self.routing.ready:
            return web.json_response({"status": "no model has a ready replica"}, status=503)
        return web.json_response({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=self.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    def _key(self, request: web.Request) -> ApiKey | None:
        required = self.settings.asks_for_keys or self.routing.keys_required
        return identify(request.headers, self.routing.keys, required=required, now=self.wall_clock())
