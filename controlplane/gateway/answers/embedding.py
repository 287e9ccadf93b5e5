"""Vectors of questions: asked of an OpenAI-compatible API, or made in this process (extra `semantic`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from controlplane.domain.door.similar import EmbedderOptions

_log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
"""Rows of length 1, one for each text."""

Embed = Callable[[Sequence[str]], Awaitable[Vectors | None]]
"""Returns a vector for each text; None when there are none now."""


def embedder(options: EmbedderOptions, session: aiohttp.ClientSession) -> Embed:
    """Return who makes vectors by these options."""

    async def embed(texts: Sequence[str]) -> Vectors | None:
        try:
            async with asyncio.timeout(options.timeout_s):
                made = await (_own(texts, options) if options.url is None else _asked(texts, options, session))
            return unit_rows(made, len(texts))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, ImportError) as error:
            _log.warning("no embeddings: %s", type(error).__name__)
            return None

    return embed


def unit_rows(rows: Any, count: int) -> Vectors:
    """Return `count` rows as unit vectors. Raises ValueError for anything else, rows of zeros included."""
    vectors: Vectors = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True) if vectors.ndim == 2 else np.zeros((0, 1))
    if len(lengths) != count or not np.isfinite(lengths).all() or not lengths.all():
        raise ValueError("no vectors")
    return np.asarray(vectors / lengths, dtype=np.float32)


async def _asked(texts: Sequence[str], options: EmbedderOptions, session: aiohttp.ClientSession) -> Any:
    url = f"{str(options.url).rstrip('/').removesuffix('/v1')}/v1/embeddings"
    async with session.post(url, json={"model": options.model, "input": list(texts)}) as response:
        answer: Any = await response.json(content_type=None)
    if response.status != 200 or not isinstance(answer, dict):
        raise ValueError("no embeddings")
    rows = answer.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "embedding" in row for row in rows):
        raise ValueError("no embeddings")
    return [row["embedding"] for row in sorted(rows, key=lambda row: row.get("index", 0))]


async def _own(texts: Sequence[str], options: EmbedderOptions) -> Any:
    return await asyncio.to_thread(lambda: _loaded(options.model).encode(list(texts)))


@cache
def _loaded(model: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(model)
