"""The data port: OpenAI's API for clients, /health, /ready and /metrics for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from controlplane.gateway.call import read_call
from controlplane.gateway.drain import Drain
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.keys import key_name
from controlplane.gateway.metrics import Metrics
from controlplane.gateway.openai_errors import RequestRefused, error_response
from controlplane.gateway.proxy import Proxy
from controlplane.gateway.routing import Routing
from controlplane.gateway.settings import Settings

PASSED_ON = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class DataPort:
    """Request handlers of the data port."""

    settings: Settings
    routing: Routing
    proxy: Proxy
    metrics: Metrics
    drain: Drain
    fingerprints: Fingerprints

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
        arrival = self.proxy.begin()
        key = self._key(request)
        with self.drain.busy():
            limit = self.settings.max_body_bytes
            call = await read_call(request, key=key, max_body_bytes=limit, fingerprints=self.fingerprints)
            return await self.proxy.serve(request, call, arrival)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self._key(request)
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "fleetune"} for name in self.routing.models()
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

    def _key(self, request: web.Request) -> str | None:
        keys = self.routing.table.api_keys if self.routing.table else ()
        return key_name(request.headers.get("Authorization"), keys, required=self.settings.asks_for_keys)
