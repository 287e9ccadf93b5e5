"""Models with layers, by ONNX Runtime: sentence-transformers' folders with their ONNX export, on a processor or a GPU.

A text's vector is what the model itself calls `sentence_embedding`, else its tokens' last vectors pooled as
`1_Pooling/config.json` says (Reimers and Gurevych 2019; the mean where nothing is said), of length one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from controlplane.embedding.model import Embedded, ModelError, Text

GRAPHS = ("model.onnx", "onnx/model.onnx")
"""Where an export lies in its folder: as optimum writes it, as hub folders hold it."""

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_POOLED = "sentence_embedding"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Pooling(StrEnum):
    """Which vector a text has; the words of sentence-transformers' configuration."""

    MEAN = "pooling_mode_mean_tokens"
    CLS = "pooling_mode_cls_token"
    MAX = "pooling_mode_max_tokens"
    LAST = "pooling_mode_lasttoken"


class Session(Protocol):
    """What is used of `onnxruntime.InferenceSession`."""

    def get_inputs(self) -> Sequence[Any]: ...
    def get_outputs(self) -> Sequence[Any]: ...
    def run(self, output_names: Sequence[str], input_feed: Mapping[str, Ids]) -> Sequence[Any]: ...


class LayeredModel:
    """May be used by several threads at once, as an ONNX session may."""

    def __init__(self, session: Session, tokenizer: Any, pooling: Pooling, *, max_tokens: int) -> None:
        self._session, self._tokenizer, self._pooling, self._most = session, tokenizer, pooling, max_tokens
        self._inputs = tuple(each.name for each in session.get_inputs())
        outputs = {each.name: each for each in session.get_outputs()}
        self._output = _POOLED if _POOLED in outputs else next(iter(outputs))
        self.vocabulary = int(tokenizer.get_vocab_size())
        self.dimensions = int(outputs[self._output].shape[-1])

    def embed(self, texts: Sequence[Text]) -> Embedded:
        """Return one vector per text, in order; all are computed at once, padded to the longest."""
        ids = self._ids(texts)
        padded = np.zeros((len(ids), max(1, *map(len, ids))), dtype=np.int64)
        mask = np.zeros_like(padded)
        for row, each in enumerate(ids):
            padded[row, : len(each)], mask[row, : len(each)] = each, 1
        found = np.asarray(self._session.run([self._output], self._feed(padded, mask))[0], dtype=np.float32)
        vectors = found if found.ndim == 2 else pooled(found, mask, self._pooling)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
        return Embedded(unit, tuple(map(len, ids)))

    def _ids(self, texts: Sequence[Text]) -> list[Sequence[int]]:
        """Token ids are taken as they are; texts get the tokenizer's special tokens."""
        encoded = iter(self._tokenizer.encode_batch([text for text in texts if isinstance(text, str)]))
        return [next(encoded).ids if isinstance(text, str) else text[: self._most] for text in texts]

    def _feed(self, ids: Ids, mask: Ids) -> dict[str, Ids]:
        known = {"input_ids": ids, "attention_mask": mask}
        return {name: known[name] if name in known else np.zeros_like(ids) for name in self._inputs}


def pooled(tokens: Floats, mask: Ids, pooling: Pooling) -> Floats:
    """Return one vector per text, shape (n, dimensions), of `tokens` (n, length, dimensions); `mask`: its own ones."""
    own = mask[:, :, None].astype(np.float32)
    match pooling:
        case Pooling.MEAN:
            return np.asarray((tokens * own).sum(axis=1) / np.maximum(own.sum(axis=1), 1), dtype=np.float32)
        case Pooling.MAX:
            return np.asarray(np.where(own > 0, tokens, -np.inf).max(axis=1), dtype=np.float32)
        case Pooling.CLS:
            return np.asarray(tokens[:, 0], dtype=np.float32)
        case Pooling.LAST:
            last = np.maximum(mask.sum(axis=1) - 1, 0)
            return np.asarray(tokens[np.arange(len(tokens)), last], dtype=np.float32)


def graph_of(folder: Path) -> Path | None:
    """Return the ONNX export in a folder, None where there is none."""
    return next((folder / name for name in GRAPHS if (folder / name).is_file()), None)


def load_layers(folder: Path, graph: Path, *, max_tokens: int, device: str, threads: int) -> LayeredModel:
    """Return the model in a folder; each batch is computed by so many `threads`. Raises ModelError."""
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed: `pip install fleetune[embed-onnx]`") from error
    provider, there = _PROVIDERS[device], onnxruntime.get_available_providers()
    if provider not in there:
        raise ModelError(
            f"this onnxruntime has no {provider}: `pip install onnxruntime-gpu` (it has {', '.join(there)})"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    most = min(max_tokens, _longest(folder))
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
    except Exception as error:
        raise ModelError(f"cannot read {graph}: {error}") from error
    if provider not in session.get_providers():  # it falls back to the processor where a library of CUDA's is missing
        raise ModelError(
            f"{provider} does not start here: onnxruntime-gpu needs CUDA and cuDNN; its log says what is missing"
        )
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise ModelError(f"cannot read {folder / 'tokenizer.json'}: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return LayeredModel(session, tokenizer, _pooling(folder), max_tokens=most)


def _pooling(folder: Path) -> Pooling:
    """Raises ModelError for a way to pool that is not known here."""
    said = _read(folder / "1_Pooling" / "config.json")
    wanted = [name for name, value in said.items() if name.startswith("pooling_mode_") and value is True]
    if not wanted:
        return Pooling.MEAN
    if len(wanted) > 1 or wanted[0] not in list(Pooling):
        allowed = ", ".join(each.value for each in Pooling)
        raise ModelError(f"{folder}/1_Pooling pools by {' and '.join(wanted)} (allowed: one of {allowed})")
    return Pooling(wanted[0])


def _longest(folder: Path) -> int:
    """Return the most tokens that the model takes: what sentence-transformers cuts at, else its positions."""
    said = _read(folder / "sentence_bert_config.json").get("max_seq_length")
    said = said or _read(folder / "config.json").get("max_position_embeddings")
    return said if isinstance(said, int) and said > 0 else 512


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text()) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {file}: {error}") from error
    return found if isinstance(found, dict) else {}
