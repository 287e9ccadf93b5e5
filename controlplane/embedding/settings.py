"""What one embedding engine is started with."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from controlplane.domain.base import Value


class EmbeddingSettings(Value):
    """The flags of `fleetune-embed`."""

    model: str
    host: str
    port: int
    served_name: str
    max_batch_size: int = Field(ge=1, description="Texts computed together at most.")
    max_wait_ms: float = Field(ge=0, description="How long a text waits for others to be computed with.")
    threads: int = Field(ge=1, description="Batches computed at the same time.")
    threads_per_batch: int = Field(ge=1, description="Of the processor, for one batch of a model with layers.")
    device: Literal["cpu", "cuda"] = Field(description="Where a model with layers is computed.")
    max_tokens: int = Field(ge=1, description="Tokens of one text; what is longer is cut, and said in `usage`.")
    max_queue: int = Field(ge=1, description="Texts that may wait; beyond it requests are answered with 503.")
    shutdown_timeout_s: float = Field(ge=0, description="How long SIGTERM waits for running requests.")


def parse_command_line(arguments: Sequence[str]) -> EmbeddingSettings:
    """Return the settings. Ends with exit code 2 and argparse's message when a flag is unknown or wrong."""
    parser = argparse.ArgumentParser(prog="fleetune-embed", description="Serve a small embedding model.")
    parser.add_argument(
        "model", help="`wordllama`, or a folder with tokenizer.json and model.safetensors or model.onnx."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_from(1), default=8000)
    parser.add_argument("--served-model-name", default=None)
    parser.add_argument("--max-batch-size", type=_from(1), default=1)
    parser.add_argument("--max-wait-ms", type=_wait, default=0.0)
    parser.add_argument("--threads", type=_from(1), default=1)
    parser.add_argument("--threads-per-batch", type=_from(1), default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--max-tokens", type=_from(1), default=8192)
    parser.add_argument("--max-queue", type=_from(1), default=4096)
    parser.add_argument("--shutdown-timeout", type=_wait, default=30.0)
    given = vars(parser.parse_args(arguments))
    named = given.pop("served_model_name") or given["model"]
    return EmbeddingSettings(served_name=named, shutdown_timeout_s=given.pop("shutdown_timeout"), **given)


class _from:  # noqa: N801 - argparse names a type in its message
    def __init__(self, least: int) -> None:
        self._least = least
        self.__name__ = f"whole number from {least}"

    def __call__(self, text: str) -> int:
        value = int(text)
        if value < self._least:
            raise ValueError(text)
        return value


def _wait(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise ValueError(text)
    return value
