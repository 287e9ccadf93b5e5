"""What the gRPC port says of itself, what it refuses, and where it listens."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from controlplane.domain.errors import InvalidInput
from controlplane.gateway.kserve.messages import SERVICE, message
from controlplane.gateway.kserve.servicer import Servicer
from tests.integration.gateway.harness import MODEL, gateway, revision
from tests.integration.gateway.kserve_client import Client, Code, answering, asking, client, refused, said
from tests.integration.gateway.test_tls import Files, files, renew, written  # noqa: F401  # a fixture
from tests.integration.gateway.upstream import upstream


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
            assert (await refused(made.call("ServerLive", timeout=240))).code() is Code.UNAVAILABLE


async def test_a_renewed_certificate_is_shown_to_who_connects_from_then_on(tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    pair = written(first.issue_cert("127.0.0.1"), tmp_path / "server")
    async with gateway(tmp_path, grpc_port=0, tls=pair) as gw:
        later = second.issue_cert("127.0.0.1")
        for ca, renewed in ((first, False), (second, True)):
            if renewed:
                renew(pair.certificate, *later.cert_chain_pems)
                renew(pair.key, later.private_key_pem)
            trusted = grpc.ssl_channel_credentials(ca.cert_pem.bytes())
            async with grpc.aio.secure_channel(gw.running.address.grpc, trusted) as channel:
                assert (await Client(channel).call("ServerLive")).live


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
