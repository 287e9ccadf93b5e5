"""A client of grpcio for the Open Inference Protocol, and what an engine of the tests answers it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from aiohttp import web

from controlplane.gateway.kserve.messages import SERVICE, InferRequest, message
from tests.integration.gateway.harness import MODEL, Gateway
from tests.integration.gateway.test_tls import Files, files  # noqa: F401  # a fixture
from tests.integration.gateway.upstream import DONE, Script

Code = grpc.StatusCode


def answering(text: str = "an answer") -> Script:
    async def script(request: web.Request) -> web.StreamResponse:
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        return web.json_response({"choices": [{"index": 0, "text": text, "finish_reason": "stop"}], "usage": usage})

    return script


def text_event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


STREAM = (text_event("one "), text_event("two", "stop"), DONE)


@dataclass
class Client:
    """Calls by their names in the protocol."""

    channel: Any
    metadata: tuple[tuple[str, str], ...] = ()

    async def call(self, name: str, request: Any = None, **options: Any) -> Any:
        return await self.begin(name, request, **options)

    def begin(self, name: str, request: Any = None, **options: Any) -> Any:
        made = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=message(f"{name}Request").SerializeToString,
            response_deserializer=message(f"{name}Response").FromString,
        )
        given = message(f"{name}Request")() if request is None else request
        return made(given, **({"metadata": self.metadata} | options))

    def stream(self, *requests: Any, **options: Any) -> Any:
        made = self.channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=InferRequest.SerializeToString,
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )
        return made(iter(requests), **({"metadata": self.metadata} | options))


@asynccontextmanager
async def client(gw: Gateway, secret: str | None = None) -> AsyncIterator[Client]:
    metadata = () if secret is None else (("authorization", f"Bearer {secret}"),)
    async with grpc.aio.insecure_channel(gw.running.address.grpc) as channel:
        yield Client(channel, metadata)


def asking(text: str = "hi", *, stream: bool = False, model: str = MODEL, **parameters: int) -> Any:
    made = InferRequest(model_name=model, id="r1")
    made.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(text.encode())
    if stream:
        made.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    for name, value in parameters.items():
        made.parameters[name].int64_param = value
    return made


def said(response: Any) -> str:
    return "".join(each.decode() for output in response.outputs for each in output.contents.bytes_contents)


async def refused(calling: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await calling
    return raised.value


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something, as long as only a dead process would take."""
    async with asyncio.timeout(240):
        while not holds():  # noqa: ASYNC110  # the other end tells nobody
            await asyncio.sleep(0.02)
