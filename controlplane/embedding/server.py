"""The HTTP side: OpenAI's paths, health, metrics. Texts are never logged and never part of an error."""

from __future__ import annotations

import json
import time

from aiohttp import web

from controlplane.embedding.batches import Batches, QueueFull
from controlplane.embedding.metrics import EmbeddingMetrics
from controlplane.embedding.requests import Asked, BadRequest, answer, read_request

_MOST_BYTES = 64 * 1024 * 1024


def application(served_name: str, batches: Batches, *, vocabulary: int) -> web.Application:
    """Return the application of one engine."""
    routes = _Routes(served_name, batches, vocabulary)
    app = web.Application(client_max_size=_MOST_BYTES)
    app.add_routes(
        [
            web.post("/v1/embeddings", routes.embeddings),
            web.get("/v1/models", routes.models),
            web.get("/health", routes.health),
            web.get("/metrics", routes.metrics),
        ]
    )
    return app


class _Routes:
    def __init__(self, served_name: str, batches: Batches, vocabulary: int) -> None:
        self._name, self._batches, self._vocabulary = served_name, batches, vocabulary
        self._metrics = EmbeddingMetrics(served_name, batches)

    async def embeddings(self, request: web.Request) -> web.Response:
        began_s = time.perf_counter()
        asked = await self._read(request)
        if isinstance(asked, web.Response):
            self._metrics.refused()
            return asked
        try:
            vectors = await self._batches.vectors(asked.texts)
        except QueueFull:
            self._metrics.refused()
            return _error(503, "the queue is full", "overloaded")
        self._metrics.answered(time.perf_counter() - began_s, sum(each.tokens for each in vectors))
        return web.json_response(answer(vectors, served_name=self._name, as_base64=asked.as_base64))

    async def models(self, _: web.Request) -> web.Response:
        card = {"id": self._name, "object": "model", "owned_by": "fleetune"}
        return web.json_response({"object": "list", "data": [card]})

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), content_type="text/plain", charset="utf-8")

    async def _read(self, request: web.Request) -> Asked | web.Response:
        try:
            body = json.loads(await request.read())
        except ValueError:  # of JSON and of its encoding
            return _error(400, "the body is no JSON", "invalid_request_error")
        try:
            return read_request(body, served_name=self._name, vocabulary=self._vocabulary)
        except BadRequest as error:
            return _error(400, str(error), "invalid_request_error")
        except KeyError:
            return _error(404, f"the model here is {self._name}", "model_not_found")


def _error(status: int, message: str, code: str) -> web.Response:
    said = {"error": {"message": message, "type": code, "param": None, "code": status}}
    return web.json_response(said, status=status)
