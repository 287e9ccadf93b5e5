"""The Open Inference Protocol over gRPC, with a client of grpcio: on the same pipeline as HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.domain.errors import InvalidInput
from controlplane.gateway.kserve.messages import SERVICE, InferRequest, message
from controlplane.gateway.kserve.servicer import Servicer
from tests.integration.gateway.harness import MODEL, Gateway, gateway, revision, table
from tests.integration.gateway.test_auditing import entries
from tests.integration.gateway.test_limits import key
from tests.integration.gateway.test_tls import Files, files  # noqa: F401  # a fixture
from tests.integration.gateway.upstream import DONE, Script, held, pieces, slam, upstream

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
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  # the other end tells nobody
            await asyncio.sleep(0.02)


async def test_a_text_is_answered_and_recorded_as_by_http(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", answering()) as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", tenant="t"),)))
        async with client(gw, "a") as made:
            calling = made.begin("ModelInfer", asking("a prompt", max_tokens=9))
            response = await calling
            told = dict(await calling.trailing_metadata())
        record = (await gw.records(1))[0]
    assert (said(response), response.id, response.model_version) == ("an answer", "r1", "rev-a")
    assert json.loads(engine.bodies[0]) == {"model": MODEL, "prompt": "a prompt", "stream": False, "max_tokens": 9}
    assert "Authorization" not in engine.seen[0].headers
    assert told["x-request-id"] == record.id
    assert (record.key, record.tenant, record.path, record.status) == ("a", "t", "/v1/completions", 200)
    assert record.prompt_tokens == 3


async def test_a_stream_is_passed_on_piece_by_piece_and_several_requests_are_answered_in_turn(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", pieces(*STREAM)) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [each.infer_response async for each in made.stream(asking(stream=True), asking(stream=True))]
    assert [said(each) for each in found] == ["one ", "two", ""] * 2
    assert [each.parameters["triton_final_response"].bool_param for each in found] == [False, False, True] * 2


async def test_a_piece_comes_before_the_answer_has_ended(tmp_path: Path) -> None:
    gate = asyncio.Event()
    script = held(gate, text_event("first"), after=text_event("last", "stop") + DONE)
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            stream = made.stream(asking(stream=True))
            assert said((await stream.read()).infer_response) == "first"
            gate.set()
            assert said((await stream.read()).infer_response) == "last"


async def test_an_answer_in_one_piece_is_one_response_of_a_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", answering()) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [said(each.infer_response) async for each in made.stream(asking())]
    assert found == ["an answer"]


async def test_a_wrong_key_is_refused_and_audited(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0, audit_days=1) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a"),)))
        async with client(gw, "wrong") as made:
            for name, request in (
                ("ModelInfer", asking()),
                ("ModelReady", message("ModelReadyRequest")(name=MODEL)),
                ("ModelMetadata", message("ModelMetadataRequest")(name=MODEL)),
            ):
                assert (await refused(made.call(name, request))).code() is Code.UNAUTHENTICATED
            assert (await refused(made.stream(asking(stream=True)).read())).code() is Code.UNAUTHENTICATED
    assert engine.seen == []
    happened = [entry.happened for entry in entries(tmp_path)]
    assert [(each.decision.value, each.path) for each in happened] == [("refused", "/v1/completions")] * 2


async def test_a_limit_and_an_overload_have_their_status(tmp_path: Path) -> None:
    keys = (key("a", requests_per_minute=1),)
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", answering()) as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=keys))
        async with client(gw, "a") as made:
            await made.call("ModelInfer", asking())
            error = await refused(made.call("ModelInfer", asking()))
            assert error.code() is Code.RESOURCE_EXHAUSTED
            told = {name: value for name, value in error.trailing_metadata()}
            assert int(told["retry-after"]) > 0
            assert told["x-ratelimit-limit-requests"] == "1"
        await gw.push(table(revision("rev-a", 100), version=2).evolve(api_keys=(key("a"),)))
        async with client(gw, "a") as made:
            assert (await refused(made.call("ModelInfer", asking()))).code() is Code.UNAVAILABLE


async def test_who_waited_for_a_place_in_vain_is_told_unavailable(tmp_path: Path) -> None:
    gate = asyncio.Event()
    options = GatewayOptions(queue=QueueOptions(enabled=True, max_wait_s=0.1))
    script = held(gate, text_event("x"), after=text_event("y", "stop") + DONE)
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine).evolve(concurrency_limit=1), options=options)
        async with client(gw) as made:
            stream = made.stream(asking(stream=True))
            await stream.read()
            assert (await refused(made.call("ModelInfer", asking()))).code() is Code.UNAVAILABLE
            gate.set()
            assert said((await stream.read()).infer_response) == "y"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_cancelled_call_and_one_whose_deadline_is_over_free_the_engine(tmp_path: Path, streams: bool) -> None:
    script = held(asyncio.Event(), text_event("x"))
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            if streams:
                stream = made.stream(asking(stream=True))
                await stream.read()
                stream.cancel()
            else:
                error = await refused(made.call("ModelInfer", asking(), timeout=0.5))
                assert error.code() is Code.DEADLINE_EXCEEDED
            async with asyncio.timeout(120):
                await engine.hung_up.wait()
        record = (await gw.records(1))[0]
    assert record.client_gone


async def test_a_call_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    script = held(asyncio.Event(), text_event("x"))
    async with gateway(tmp_path, grpc_port=0, grpc_within_s=0.3) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            assert (await refused(made.call("ModelInfer", asking()))).code() is Code.DEADLINE_EXCEEDED
            stream = made.stream(asking(stream=True))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _ in stream:
                    pass
            assert raised.value.code() is Code.DEADLINE_EXCEEDED


async def test_errors_inside_a_stream_are_messages_or_its_status(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", slam()) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [each async for each in made.stream(asking(stream=True), asking(model="other"))]
            assert "`other` is not served" in found[1].error_message
            assert (found[1].infer_response.id, found[0].error_message != "") == ("r1", True)
            stream = made.stream(asking(model="other"), metadata=(("triton_grpc_error", "true"),))
            assert (await refused(stream.read())).code() is Code.NOT_FOUND


async def test_an_engine_that_breaks_off_is_said_in_the_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", pieces(text_event("x"))) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [each async for each in made.stream(asking(stream=True))]
    assert [said(found[0].infer_response), "broke off" in found[1].error_message] == ["x", True]


async def test_what_is_served_and_whether_it_is_ready(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1") as engine, client(gw) as made:
        assert (await made.call("ServerLive")).live
        assert not (await made.call("ServerReady")).ready
        await gw.route(revision("rev-a", 100, engine))
        assert (await made.call("ServerReady")).ready
        assert (await made.call("ServerMetadata")).name == "fleetune"
        assert (await made.call("ModelReady", message("ModelReadyRequest")(name=MODEL))).ready
        card = await made.call("ModelMetadata", message("ModelMetadataRequest")(name=MODEL))
        assert (card.name, list(card.versions)) == (MODEL, ["rev-a"])
        assert {each.name for each in card.inputs} >= {"text_input", "stream", "sampling_parameters"}
        assert "text_output" in {each.name for each in card.outputs}
        unknown = made.call("ModelReady", message("ModelReadyRequest")(name="../files"))
        assert (await refused(unknown)).code() is Code.NOT_FOUND
        assert (await refused(made.call("ModelInfer", asking(model="x")))).code() is Code.NOT_FOUND
        assert (await refused(made.call("ModelInfer", asking(stream=True)))).code() is Code.INVALID_ARGUMENT


async def test_health_follows_the_routing_table(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, grpc_port=0) as gw,
        upstream("e1") as engine,
        grpc.aio.insecure_channel(gw.running.address.grpc) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == 1
        watching = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        seen = [(await watching.read()).status]
        while seen[-1] != 2:
            seen.append((await watching.read()).status)
        await gw.route(revision("rev-a", 100, engine))
        assert (await watching.read()).status == 1
        gw.running.drain.request()
        assert (await watching.read()).status == 2
        error = await refused(Client(channel).call("ModelInfer", asking()))
        assert error.code() is Code.UNAVAILABLE


async def test_reflection_tells_tools_what_is_served(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw:
        address = gw.running.address.grpc

        def asked() -> tuple[set[str], list[str]]:
            with grpc.insecure_channel(address) as channel:
                known = ProtoReflectionDescriptorDatabase(channel)
                file = known.FindFileContainingSymbol(SERVICE)
                return set(known.get_services()), [method.name for method in file.service[0].method]

        services, methods = await asyncio.to_thread(asked)
    assert services == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert "ModelStreamInfer" in methods


async def test_messages_are_bounded_and_never_unpacked(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0, max_body_bytes=1000) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            large = made.call("ModelInfer", asking("x" * 200_000))
            assert (await refused(large)).code() is Code.RESOURCE_EXHAUSTED
            packed = made.call("ModelInfer", asking("x" * 50_000), compression=grpc.Compression.Gzip)
            assert (await refused(packed)).code() is Code.UNIMPLEMENTED
            beyond = made.call("ModelInfer", asking("x" * 20_000))
            assert (await refused(beyond)).code() is Code.INVALID_ARGUMENT  # as 413: larger than a body may be
    assert engine.seen == []


async def test_bytes_that_are_no_message_are_the_clients_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, grpc.aio.insecure_channel(gw.running.address.grpc) as channel:
        for sent in (b"\xff", b"planted-secret", b"\x0a\xff\xff\xff\xff\x0f", b"\x2a\x05\x0a\x03abc\xff"):
            whole = channel.unary_unary(f"/{SERVICE}/ModelInfer")(sent)
            assert (await refused(whole)).code() in {Code.INVALID_ARGUMENT, Code.NOT_FOUND}
            stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([sent]))
            assert (await refused(stream.read())).code() is Code.INVALID_ARGUMENT
        unknown = channel.unary_unary(f"/{SERVICE}/ModelDelete")(b"")
        assert (await refused(unknown)).code() is Code.UNIMPLEMENTED
    assert "planted-secret" not in caplog.text


async def test_nothing_of_a_prompt_is_logged_or_said_when_the_gateway_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: Servicer, request: Any, context: Any) -> Any:
        raise LookupError(str(request))

    monkeypatch.setattr(Servicer, "_infer", broken)
    async with gateway(tmp_path, grpc_port=0) as gw, client(gw) as made:
        with caplog.at_level(logging.DEBUG):
            error = await refused(made.call("ModelInfer", asking("planted-secret")))
    assert (error.code(), error.details()) == (Code.INTERNAL, "The gateway broke.")
    assert "LookupError" in caplog.text
    assert "planted-secret" not in caplog.text


async def test_with_the_gateways_certificate_it_is_tls(tmp_path: Path, files: Files) -> None:  # noqa: F811
    async with gateway(tmp_path, grpc_port=0, tls=files.server) as gw, upstream("e1", answering()) as engine:
        await gw.route(revision("rev-a", 100, engine))
        trusted = grpc.ssl_channel_credentials(files.ca.read_bytes())
        async with grpc.aio.secure_channel(gw.running.address.grpc, trusted) as channel:
            assert said(await Client(channel).call("ModelInfer", asking())) == "an answer"
        async with client(gw) as made:
            assert (await refused(made.call("ServerLive", timeout=20))).code() is Code.UNAVAILABLE


async def test_beyond_loopback_everybody_needs_a_key(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0, grpc_host="0.0.0.0") as gw, upstream("e1", answering()) as engine:
        await gw.route(revision("rev-a", 100, engine))
        port = str(gw.running.address.grpc).rpartition(":")[2]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert (await refused(Client(channel).call("ModelInfer", asking()))).code() is Code.UNAUTHENTICATED


async def test_on_ipv6_its_address_is_one_that_clients_can_use(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0, grpc_host="::1") as gw, client(gw) as made:
        assert (await made.call("ServerLive")).live


async def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw:
        port = int(str(gw.running.address.grpc).rpartition(":")[2])
        with pytest.raises(InvalidInput, match="for gRPC"):
            async with gateway(tmp_path, name="gw-2", grpc_port=port):
                pass


async def test_without_a_port_there_is_none_and_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, controlplane.gateway.__main__ as m; print('grpc' in sys.modules, 'google.protobuf' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.split() == [b"False", b"False"]
    async with gateway(tmp_path) as gw:
        assert gw.running.address.grpc is None
