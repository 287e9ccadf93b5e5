"""OpenAI's `/v1/embeddings`: what a body asks for, and the answer to it. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

from controlplane.embedding.batches import Vector
from controlplane.embedding.model import Text

MOST_TEXTS = 2048  # OpenAI's own limit


class BadRequest(Exception):
    """A body that cannot be answered; the message names no text."""


class Asked(NamedTuple):
    texts: tuple[Text, ...]
    as_base64: bool


def read_request(body: Any, *, served_name: str, vocabulary: int) -> Asked:
    """Return what is asked. Raises BadRequest with what is wrong and what is allowed, KeyError for another model."""
    if not isinstance(body, dict):
        raise BadRequest("the body is no JSON object")
    if body.get("model") != served_name:
        raise KeyError(str(body.get("model"))[:100])
    form = body.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise BadRequest("encoding_format is neither float nor base64")
    if body.get("dimensions") is not None:
        raise BadRequest("dimensions cannot be chosen: this model has one size")
    return Asked(_texts(body.get("input"), vocabulary), form == "base64")


def answer(vectors: Sequence[Vector], *, served_name: str, as_base64: bool) -> dict[str, Any]:
    """Return the body of the answer."""
    tokens = sum(each.tokens for each in vectors)
    return {
        "object": "list",
        "model": served_name,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(each.values.astype("<f4").tobytes()).decode()
                if as_base64
                else each.values.tolist(),
            }
            for index, each in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _texts(given: Any, vocabulary: int) -> tuple[Text, ...]:
    """One text, several, one list of token ids, or several of these."""
    if isinstance(given, str) or _are_ids(given, vocabulary):
        return (given,)
    if not isinstance(given, list) or not given:
        raise BadRequest("input is neither a text, nor token ids of this model, nor a list of these")
    if len(given) > MOST_TEXTS:
        raise BadRequest(f"input has {len(given)} texts, {MOST_TEXTS} are allowed")
    if not all(isinstance(each, str) or _are_ids(each, vocabulary) for each in given):
        raise BadRequest("input holds something that is neither a text nor token ids of this model")
    return tuple(given)


def _are_ids(given: Any, vocabulary: int) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < vocabulary for each in given)
    )
