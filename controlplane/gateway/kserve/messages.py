"""The protocol's messages, made of its descriptors in a pool of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTORS = Path(__file__).with_name("open_inference.binpb")
SERVICE = "inference.GRPCInferenceService"

POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
    POOL.Add(_file)


def message(name: str) -> Any:
    """Return the class of a message. Raises KeyError for a name that the protocol does not have."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


InferRequest = message("ModelInferRequest")
InferResponse = message("ModelInferResponse")
StreamInferResponse = message("ModelStreamInferResponse")
