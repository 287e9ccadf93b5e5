"""A sentence-transformers folder with an ONNX export made here: random weights, one layer, a tokenizer of words.

Its bytes are written by hand (the messages of onnx.proto), so that no test needs the package `onnx`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WORDS = ("[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "sleeps", "runs")
DIMENSIONS = 8
_FLOAT, _INT64 = 1, 7  # TensorProto.DataType


def write_model(folder: Path, *, pooling: str | None = None, longest: int = 16, graph: str = "onnx/model.onnx") -> Path:
    """Write a model of these words and return its folder; `pooling` is the mode that 1_Pooling switches on."""
    target = folder / graph
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_model())
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": longest}))
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        modes = {"pooling_mode_mean_tokens": False, "word_embedding_dimension": DIMENSIONS, pooling: True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder


def weights() -> tuple[np.ndarray, np.ndarray]:
    """Return the table (words, dimensions) and the layer (dimensions, dimensions): tanh(table[ids] @ layer)."""
    random = np.random.default_rng(7)
    return tuple(random.normal(size=(rows, DIMENSIONS)).astype(np.float32) for rows in (len(WORDS), DIMENSIONS))  # type: ignore[return-value]


def _model() -> bytes:
    table, layer = weights()
    nodes = [
        _node("Gather", ["table", "input_ids"], "vectors"),
        _node("MatMul", ["vectors", "layer"], "mixed"),
        _node("Tanh", ["mixed"], "last_hidden_state"),
    ]
    inputs = [_value(name, _INT64, ["n", "length"]) for name in ("input_ids", "attention_mask", "token_type_ids")]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"tiny")
    graph += _field(5, _tensor("table", table)) + _field(5, _tensor("layer", layer))
    graph += b"".join(_field(11, each) for each in inputs)
    graph += _field(12, _value("last_hidden_state", _FLOAT, ["n", "length", DIMENSIONS]))
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 17))


def _node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode()) + _field(4, kind.encode())


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    return dims + _number(2, _FLOAT) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, kind: int, dims: Sequence[str | int]) -> bytes:
    shape = b"".join(_field(1, _number(1, d) if isinstance(d, int) else _field(2, d.encode())) for d in dims)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, kind) + _field(2, shape)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _tokenizer() -> dict[str, object]:
    special = {name: {"id": name, "ids": [WORDS.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    template = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template,
            "pair": template,
            "special_tokens": special,
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }
