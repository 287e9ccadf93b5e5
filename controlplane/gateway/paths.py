"""The paths that are passed on to engines: those of `vllm serve` that ask a model for something."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


class Shape(Enum):
    """What a body is written in."""

    JSON = "json"
    FORM = "form"  # multipart/form-data, with a file


class Passed(NamedTuple):
    """How a request of one path is understood. `needs_model` False: vLLM answers without `model` too."""

    shape: Shape = Shape.JSON
    needs_model: bool = True


PASSED_ON: Mapping[str, Passed] = {
    "/v1/chat/completions": Passed(),
    "/v1/completions": Passed(),
    "/v1/embeddings": Passed(),
    "/v1/responses": Passed(),
    "/v1/messages": Passed(),
    "/v1/messages/count_tokens": Passed(),
    "/v1/rerank": Passed(),
    "/v2/rerank": Passed(),
    "/rerank": Passed(),
    "/v1/score": Passed(),
    "/score": Passed(),
    "/classify": Passed(needs_model=False),
    "/pooling": Passed(needs_model=False),
    "/tokenize": Passed(needs_model=False),
    "/detokenize": Passed(needs_model=False),
    "/invocations": Passed(needs_model=False),
    "/v1/audio/transcriptions": Passed(Shape.FORM),
    "/v1/audio/translations": Passed(Shape.FORM),
    "/v1/audio/speech": Passed(),
}
"""Not among them: what changes an engine (`/v1/load_lora_adapter`, `/sleep`), what only one replica could answer
(`/v1/responses/{id}`), and what has a state of its own: `/v1/files` and `/v1/batches` are `gateway.batches`'."""
