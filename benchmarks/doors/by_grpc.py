"""Short answers by gRPC, and what they cost a door."""

from __future__ import annotations

import asyncio
import itertools
import time

import grpc

from benchmarks.doors.contestants import Door
from benchmarks.doors.load import Cost
from controlplane.gateway.kserve.messages import SERVICE, InferRequest, InferResponse

_CONNECTIONS = 4
_asked = itertools.count()


async def cost(door: Door, address: str, *, requests: int, at_once: int) -> Cost:
    """Send so many calls, `at_once` at any time, over a few connections, and read the door's CPU time."""
    channels = [
        grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(_CONNECTIONS)
    ]
    left, before, began = iter(range(requests)), door.cpu_s(), time.monotonic()

    async def one_after_the_other(channel: grpc.aio.Channel) -> None:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=InferRequest.SerializeToString,
            response_deserializer=InferResponse.FromString,
        )
        for _ in left:
            await infer(_request())

    await asyncio.gather(*(one_after_the_other(channels[number % _CONNECTIONS]) for number in range(at_once)))
    found = Cost(requests, time.monotonic() - began, door.cpu_s() - before)
    await asyncio.gather(*(channel.close() for channel in channels))
    return found


def _request() -> object:
    made = InferRequest(model_name="stub", id=str(next(_asked)))
    text = made.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(b"Say one token.")
    made.parameters["max_tokens"].int64_param = 1
    made.parameters["seed"].int64_param = next(_asked)
    return made
