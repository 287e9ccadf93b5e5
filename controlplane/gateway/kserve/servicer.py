"""What the port answers: each call that asks a model is a completion, asked of the gateway's own pipeline.

So it is identified by its metadata as HTTP is by its headers, limited, looked at, kept, queued, recorded and audited. A
client that cancels, or whose deadline is over, ends its request at the engine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import grpc
import msgspec

from controlplane.gateway.events import data_of
from controlplane.gateway.kserve import tensors
from controlplane.gateway.kserve.asking import Asker, CallRefused, of_event, of_refusal
from controlplane.gateway.kserve.messages import StreamInferResponse, message
from controlplane.gateway.kserve.tensors import Asked
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.routing import Routing
from controlplane.gateway.sse import as_mapping, parsed_object

COMPLETIONS = "/v1/completions"
_NO_NAMES = frozenset({"", ".", ".."})
"""A path that ends so is the list of models, or none: it says nothing of one."""

STATUS_ERRORS = "triton_grpc_error"
"""Metadata by which Triton's clients ask that an error ends a stream with its status; else it is a message of it."""


@dataclass(frozen=True)
class Servicer:
    """The protocol's calls. None lasts longer than `within_s`."""

    routing: Routing
    asker: Asker
    within_s: float

    async def live(self, request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self.routing.ready and not self.asker.drain.began)

    async def server_metadata(self, request: Any, context: Any) -> Any:
        told = message("ServerMetadataResponse")
        return told(name="fleetune", version=version("fleetune"), extensions=["model_stream_infer"])

    async def model_ready(self, request: Any, context: Any) -> Any:
        """Say whether a model has a replica; one that is not there, or not for who asks, is not found."""
        await self._ended_well(context, self._find(request.name, context))
        route = self.routing.route_of(request.name)
        return message("ModelReadyResponse")(ready=route is None or route.served)

    async def model_metadata(self, request: Any, context: Any) -> Any:
        await self._ended_well(context, self._find(request.name, context))
        route = self.routing.route_of(request.name)
        response = message("ModelMetadataResponse")(name=request.name, platform="vllm")
        response.versions.extend([pool.revision for pool in route.pools] if route else [])
        for name, datatype in tensors.INPUTS.items():
            response.inputs.add(name=name, datatype=datatype, shape=[1])
        for name, datatype in tensors.OUTPUTS.items():
            response.outputs.add(name=name, datatype=datatype, shape=[-1])
        return response

    async def infer(self, request: Any, context: Any) -> Any:
        return await self._ended_well(context, self._infer(request, context))

    async def stream_infer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answer the requests of a stream one after the other."""
        try:
            async with asyncio.timeout(self.within_s):
                async for request in requests:
                    async for response in self._answers(request, context):
                        yield response
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, self._too_long)
        except CallRefused as refused:
            await _abort(context, refused)

    async def _ended_well(self, context: Any, asking: Awaitable[Any]) -> Any:
        """Return what comes of asking, or end the call with the status of what went wrong."""
        try:
            async with asyncio.timeout(self.within_s):
                return await asking
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, self._too_long)
        except CallRefused as refused:
            await _abort(context, refused)

    @property
    def _too_long(self) -> str:
        return f"A call may take {self.within_s:g} s."

    async def _find(self, name: str, context: Any) -> None:
        """Look whether a model is there for who asks. Raises CallRefused."""
        if name in _NO_NAMES:
            raise CallRefused(grpc.StatusCode.NOT_FOUND, "A model has a name.")
        path = f"/v1/models/{quote(name, safe='')}"
        async with self.asker.asked(_metadata(context), "GET", path):
            return

    async def _infer(self, request: Any, context: Any) -> Any:
        asked = _read(request)
        if asked.stream:
            raise CallRefused(grpc.StatusCode.INVALID_ARGUMENT, "`stream`: only ModelStreamInfer streams.")
        async with self.asker.asked(_metadata(context), "POST", COMPLETIONS, _body(asked)) as answered:
            answer = parsed_object(await answered.response.read())
        context.set_trailing_metadata(tuple(answered.told.items()))
        return tensors.whole(request, asked, answer, answered.revision)

    async def _answers(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Yield what answers one request of a stream. Raises CallRefused for who may not ask at all."""
        metadata = _metadata(context)
        try:
            async for response in self._pieces(request, metadata):
                yield StreamInferResponse(infer_response=response)
        except CallRefused as refused:
            if refused.code is grpc.StatusCode.UNAUTHENTICATED or metadata.get(STATUS_ERRORS) == "true":
                raise
            yield StreamInferResponse(
                error_message=refused.text, infer_response={"id": request.id, "model_name": request.model_name}
            )

    async def _pieces(self, request: Any, metadata: Mapping[str, Any]) -> AsyncIterator[Any]:
        asked = _read(request)
        usage: Mapping[str, Any] = {}
        async with self.asker.asked(metadata, "POST", COMPLETIONS, _body(asked)) as answered:
            if answered.response.content_type != "text/event-stream":
                answer = parsed_object(await answered.response.read())
                yield tensors.whole(request, asked, answer, answered.revision)
                return
            async for data in data_of(answered.response):
                event = parsed_object(data.encode())
                if "error" in event:
                    raise of_event(event["error"])
                usage = as_mapping(event.get("usage")) or usage
                response = tensors.piece(request, asked, event, answered.revision)
                if response is not None:
                    yield response
        yield tensors.last(request, asked, usage, answered.revision)


def _read(request: Any) -> Asked:
    try:
        return tensors.read(request)
    except RequestRefused as refusal:
        raise of_refusal(refusal) from refusal


def _body(asked: Asked) -> bytes:
    """Return the completion. Its prompt, of up to 32 MiB, is written by msgspec: `json` takes longer."""
    others = {name: value for name, value in asked.fields.items() if name != "prompt"}
    return json.dumps(others).encode()[:-1] + b', "prompt": ' + msgspec.json.encode(asked.fields["prompt"]) + b"}"


def _metadata(context: Any) -> dict[str, Any]:
    return dict(context.invocation_metadata() or ())


async def _abort(context: Any, refused: CallRefused) -> None:
    await context.abort(refused.code, refused.text, tuple(refused.told.items()))
