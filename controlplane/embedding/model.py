"""A model of static token vectors: a text's vector is the mean of its tokens' vectors, of length one.

Such models are distilled from large ones (model2vec, Minish Lab 2024; WordLlama, Miller 2024): a table of vectors and a
tokenizer, no layers. That is real inference of a real model, in a fraction of a millisecond of one processor.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

PACKAGED = "wordllama"
"""The PyPI package that carries weights (32,000 tokens of 256 numbers, MIT); only its files are read."""

Text = str | Sequence[int]
"""What is embedded: text, or the ids of its tokens."""

_TENSORS = ("embedding.weight", "embeddings")  # as WordLlama and as model2vec call the table


class ModelError(Exception):
    """A model that cannot be served; says what is missing."""


class Embedded(NamedTuple):
    """Vectors of shape (n, dimensions), float32, and how many tokens each is the mean of."""

    vectors: npt.NDArray[np.float32]
    tokens: tuple[int, ...]


class EmbeddingModel(Protocol):
    """What turns texts into vectors, from several threads at once."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def dimensions(self) -> int: ...
    def embed(self, texts: Sequence[Text]) -> Embedded: ...


class _Files(NamedTuple):
    weights: Path
    tokenizer: Path


class StaticModel:
    """`table` has shape (vocabulary, dimensions). May be used by several threads at once."""

    def __init__(self, table: npt.NDArray[np.float32], tokenizer: object, *, max_tokens: int) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    @property
    def vocabulary(self) -> int:
        return int(self._table.shape[0])

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1])

    def embed(self, texts: Sequence[Text]) -> Embedded:
        """Return one vector per text, in order. A text without a token has the vector zero."""
        ids = self._ids(texts)
        vectors = np.zeros((len(ids), self.dimensions), dtype=np.float32)
        for row, each in enumerate(ids):
            if len(each):
                vectors[row] = self._table[each].mean(axis=0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, np.float32(1))
        return Embedded(vectors, tuple(len(each) for each in ids))

    def _ids(self, texts: Sequence[Text]) -> list[Sequence[int]]:
        words = [text for text in texts if isinstance(text, str)]
        encoded = iter(self._tokenizer.encode_batch(words, add_special_tokens=False))  # type: ignore[attr-defined]
        found = (next(encoded).ids if isinstance(text, str) else text for text in texts)
        return [each[: self._max_tokens] for each in found]


def load_static(name: str, *, max_tokens: int) -> StaticModel:
    """Return the packaged model or the table of vectors in a folder. Raises ModelError."""
    files = _files(name)
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed: `pip install fleetune[embed]`") from error
    try:
        tensors = load_file(files.weights)
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {files.weights}: {error}") from error
    except Exception as error:
        raise ModelError(f"cannot read {files.tokenizer}: {error}") from error
    table = next((tensors[tensor] for tensor in _TENSORS if tensor in tensors), None)
    if table is None or table.ndim != 2:
        raise ModelError(f"{files.weights} holds no table of vectors named {' or '.join(_TENSORS)}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return StaticModel(table.astype(np.float32), tokenizer, max_tokens=max_tokens)


def _files(name: str) -> _Files:
    if name == PACKAGED:
        spec = importlib.util.find_spec(PACKAGED)
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(f"the model {PACKAGED} is not installed: `pip install fleetune[embed]`")
        root = Path(spec.submodule_search_locations[0])
        return _Files(
            root / "weights" / "l2_supercat_256.safetensors",
            root / "tokenizers" / "l2_supercat_tokenizer_config.json",
        )
    root = Path(name)
    files = _Files(root / "model.safetensors", root / "tokenizer.json")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(f"no model in {name}: {' and '.join(missing)} missing (allowed: {PACKAGED}, or a folder)")
    return files
