"""Opening the port of the Open Inference Protocol, with TLS where the gateway has it, health and reflection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from controlplane.domain.errors import InvalidInput
from controlplane.gateway.background import in_background
from controlplane.gateway.drain import LAST_WORDS_S, Drain
from controlplane.gateway.kserve.asking import Asker
from controlplane.gateway.kserve.discretion import Call, discreet, discreet_stream
from controlplane.gateway.kserve.messages import POOL, SERVICE, message
from controlplane.gateway.kserve.servicer import Servicer
from controlplane.gateway.routing import Routing
from controlplane.gateway.settings import GatewaySettings, TlsFiles
from controlplane.gateway.tls import of_server, server_tls
from controlplane.gateway.wire import LARGEST_HEADER_BYTES

MOST_CALLS = 10_000
LARGEST_ANSWER_BYTES = 64 << 20
_MOST_CALLS_OF_A_CONNECTION = 1_000
_FRAME_BYTES = 64 << 10  # of a request, beside what would be its body
_IDLE_MS = 600_000
_HEALTH_EVERY_S = 1.0


async def open_grpc(
    settings: GatewaySettings, routing: Routing, drain: Drain, session: aiohttp.ClientSession, stack: AsyncExitStack
) -> str:
    """Open the port and return its address. On leaving the stack: what still runs is cut. Raises InvalidInput."""
    server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=MOST_CALLS)
    servicer = Servicer(routing, Asker(session, drain), settings.grpc_within_s)
    server.add_generic_rpc_handlers((_handlers(servicer),))
    told = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(told, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=_pool())
    port = _listen(server, settings)
    await server.start()
    stack.push_async_callback(server.stop, LAST_WORDS_S)
    await in_background(lambda: _tell_health(told, routing, drain), stack)
    return _address(settings.grpc_host, port)


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a second process on the port would take half of the calls
        ("grpc.max_receive_message_length", settings.max_body_bytes + _FRAME_BYTES),
        ("grpc.max_send_message_length", LARGEST_ANSWER_BYTES),
        ("grpc.max_metadata_size", LARGEST_HEADER_BYTES),
        ("grpc.max_concurrent_streams", _MOST_CALLS_OF_A_CONNECTION),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: what a small message unpacks to would be unbounded
    ]


def _handlers(servicer: Servicer) -> Any:
    def unary(call: Call, request: str, response: str) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            discreet(call, message(request)),
            response_serializer=message(response).SerializeToString,
        )

    calls = {
        "ServerLive": servicer.live,
        "ServerReady": servicer.ready,
        "ServerMetadata": servicer.server_metadata,
        "ModelReady": servicer.model_ready,
        "ModelMetadata": servicer.model_metadata,
        "ModelInfer": servicer.infer,
    }
    handlers = {name: unary(call, f"{name}Request", f"{name}Response") for name, call in calls.items()}
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        discreet_stream(servicer.stream_infer, message("ModelInferRequest")),
        response_serializer=message("ModelStreamInferResponse").SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _listen(server: Any, settings: GatewaySettings) -> int:
    """Bind and return the port. Raises InvalidInput."""
    host, port = settings.grpc_host, settings.grpc_port
    address = _address(host, port or 0)
    try:
        if settings.tls is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, _credentials(settings.tls)))
    except RuntimeError as error:
        raise InvalidInput(
            f"cannot listen on {host}:{port} for gRPC",
            why="the port is in use, or the address is none of this machine",
            allowed="another --grpc-port, or 0 for any free one",
        ) from error


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _credentials(files: TlsFiles) -> Any:
    """Files that were renewed are taken at the next handshake. Raises InvalidInput for what cannot be used at first."""
    server_tls(files)
    renewed = of_server(files)

    def read() -> Any:
        return grpc.ssl_server_certificate_configuration([(files.key.read_bytes(), files.certificate.read_bytes())])

    return grpc.dynamic_ssl_server_credentials(read(), lambda: read() if renewed.take() else None)


def _pool() -> DescriptorPool:
    """Return the descriptors of all that is served here, for reflection."""
    pool = DescriptorPool()
    for served in (POOL.FindFileByName("open_inference.proto"), health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(served.serialized_pb)
    return pool


async def _tell_health(told: Any, routing: Routing, drain: Drain) -> None:
    """Tell the health service what `/ready` says, until the gateway drains; `""` is the process, which lives."""
    while not drain.began:
        serving = health_pb2.HealthCheckResponse.SERVING
        await told.set(SERVICE, serving if routing.ready else health_pb2.HealthCheckResponse.NOT_SERVING)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEALTH_EVERY_S):
                await drain.requested.wait()
    await told.enter_graceful_shutdown()
