"""HTTP: vLLM's routes over one conversation, and the admin port that changes faults while the engine runs."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import HttpVersion11, web
from pydantic import ValidationError

from controlplane.domain.engines.driver import MetricNames
from controlplane.domain.engines.kinds.emulator import EMULATOR
from controlplane.emulator.adapters import model_card
from controlplane.emulator.answers import StreamAnswer
from controlplane.emulator.cors import is_preflight
from controlplane.emulator.dialects.page import page
from controlplane.emulator.dialects.requests import heard
from controlplane.emulator.errors import ApiError, bad_request
from controlplane.emulator.faults import Faults, MetricsFault
from controlplane.emulator.metrics import EngineMetrics
from controlplane.emulator.protocol import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody, read_body
from controlplane.emulator.service import Conversation, chat_text
from controlplane.emulator.settings import EmulatorSettings

LAPSE_HEADER = "X-Fleetune-Time-Lapse"
_LARGEST_BODY = 64 * 2**20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Every route of the public port, and `more` of them. `on_request` counts requests for the crash fault."""

    def __init__(
        self,
        conversation: Conversation,
        metrics: EngineMetrics,
        settings: EmulatorSettings,
        *,
        version: Callable[[], dict[str, Any]],
        on_request: Callable[[], None],
        more: Iterable[web.RouteDef] = (),
    ) -> None:
        self._conversation = conversation
        self._metrics = metrics
        self._version = version
        self._lapse = f"{settings.time_lapse:g}"
        self._api_keys = settings.api_keys
        self._on_request = on_request
        self._more = tuple(more)
        self._cors = settings.cors
        self._speaks = settings.speaks

    def app(self) -> web.Application:
        """Return the application of the public port."""
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._guard])
        app.add_routes([*self._every_engines(), *(self._vllms() if self._speaks is None else ())])
        app.on_response_prepare.append(self._sign)
        return app

    def _every_engines(self) -> list[web.RouteDef]:
        speaks = self._speaks or EMULATOR
        return [
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/completions", self._completions),
            web.get("/v1/models", self._models),
            web.get(speaks.readiness.health_path, _empty),
            web.get(speaks.metrics.path, self._scrape),
        ]

    def _vllms(self) -> list[web.RouteDef]:
        return [
            web.post("/tokenize", self._tokenize),
            web.post("/detokenize", self._detokenize),
            web.get("/ping", _empty),
            web.post("/ping", _empty),
            web.get("/version", self._show_version),
            *self._more,
        ]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_preflight(request.method, request.headers):
            status, text, headers = self._cors.of_preflight(request.headers)
            return web.Response(status=status, text=text, headers=headers)
        if request.path.startswith("/v1") and not self._admits(request):
            return _json({"error": "Unauthorized"}, status=401)
        try:
            return await handler(request)
        except ApiError as error:
            return _json(error.body, status=error.status)
        except web.HTTPRequestEntityTooLarge:
            return _json(bad_request("the request body is too large").body, status=413)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            return _json({"detail": error.reason}, status=error.status)

    def _admits(self, request: web.Request) -> bool:
        if not self._api_keys:
            return True
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        return any([hmac.compare_digest(given, key.encode()) for key in self._api_keys])

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers[LAPSE_HEADER] = self._lapse
        response.headers.update(self._cors.of_answer(request.headers))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, ChatBody)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, CompletionBody)

    async def _answer(self, request: web.Request, kind: type[ChatBody] | type[CompletionBody]) -> web.StreamResponse:
        received_wall_s = asyncio.get_running_loop().time()
        body = read_body(kind, await request.read())
        if self._speaks is not None:
            body = heard(body, self._speaks)
        self._on_request()
        if body.stream and request.version < HttpVersion11:
            raise bad_request("a stream needs HTTP/1.1", "stream")
        transport = request.transport
        if transport is None:  # hung up while its body was read
            raise bad_request("client disconnected")
        answer, numbers = self._conversation.begin(body, transport, received_wall_s=received_wall_s)
        try:
            if isinstance(answer, StreamAnswer):
                return await self._stream(request, answer)
            await answer.done
            return _json(answer.body())
        finally:
            self._conversation.end(answer, numbers)

    async def _stream(self, request: web.Request, answer: StreamAnswer) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        writer = await response.prepare(request)
        if writer is None:
            raise bad_request("client disconnected")
        writer.send_headers()  # the answer writes behind aiohttp's back, the headers must be out before
        await answer.done
        await response.write_eof()
        return response

    async def _models(self, request: web.Request) -> web.StreamResponse:
        model = self._conversation.model
        own = [
            model_card(
                name, created=model.created, root=model.root, parent=None, max_model_len=model.setup.max_model_len
            )
            for name in model.names
        ]
        cards = [*own, *self._conversation.adapters.cards()]
        return _json({"object": "list", "data": cards})

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        body = read_body(TokenizeBody, await request.read())
        self._conversation.check_model(body.model)
        text = chat_text(body.messages) if body.messages is not None else body.prompt
        if text is None:
            raise bad_request("give either prompt or messages", "prompt")
        tokens = self._conversation.model.tokenizer.encode(text)
        longest = self._conversation.model.setup.max_model_len
        texts = [self._conversation.model.tokenizer.decode([one]) for one in tokens] if body.return_token_strs else None
        shown = {"count": len(tokens), "max_model_len": longest, "tokens": tokens, "token_strs": texts}
        return _json(shown)

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        body = read_body(DetokenizeBody, await request.read())
        self._conversation.check_model(body.model)
        return _json({"prompt": self._conversation.model.tokenizer.decode(body.tokens)})

    async def _scrape(self, request: web.Request) -> web.StreamResponse:
        fault = self._conversation.faults.metrics
        if fault is MetricsFault.MISSING:
            raise web.HTTPNotFound
        self._conversation.engine.refresh_metrics()
        told = self._metrics.blank() if fault is MetricsFault.WRONG else self._metrics
        text = told.text() if self._speaks is None else self._page_of(told, self._speaks.metrics)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _page_of(self, told: EngineMetrics, names: MetricNames) -> bytes:
        return page(told, names, self._conversation.model.names[0]).encode()

    async def _show_version(self, request: web.Request) -> web.StreamResponse:
        return _json(self._version())


def admin_app(current: Callable[[], Faults], change: Callable[[Faults], None]) -> web.Application:
    """Return the application of the admin port: GET /faults shows what is set, PUT /faults replaces it."""

    async def show(request: web.Request) -> web.StreamResponse:
        return _json(current().model_dump(mode="json"))

    async def replace(request: web.Request) -> web.StreamResponse:
        try:
            faults = Faults.model_validate_json(await request.read())
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False)]
            return _json({"title": "not a set of faults", "detail": "; ".join(problems)}, status=422)
        change(faults)
        return _json(faults.model_dump(mode="json"))

    app = web.Application()
    app.add_routes([web.get("/faults", show), web.put("/faults", replace)])
    return app


def _json(value: object, status: int = 200) -> web.Response:
    """Answer with compact JSON, as FastAPI does."""
    return web.json_response(value, status=status, dumps=lambda each: json.dumps(each, separators=(",", ":")))


async def _empty(request: web.Request) -> web.StreamResponse:
    return web.Response()
