"""A language model of some ten thousand random weights in llama.cpp's file format: real inference, no sense.

The format is GGUF 3 (ggml-org/ggml, docs/gguf.md): a header, typed metadata, the shapes of tensors, aligned data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_F32 = 0  # of ggml's tensor types
_ALIGNMENT = 32
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # of token types

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = 32, 2, 4, 64, 2048
_BYTES = (0x0A, *range(0x20, 0x7F))  # whatever it answers is text
_TOKENS = ("<unk>", "<s>", "</s>", "\u2581", *(f"<0x{byte:02X}>" for byte in _BYTES))
_KINDS = (_UNKNOWN, _CONTROL, _CONTROL, _NORMAL, *[_BYTE] * len(_BYTES))

Field = tuple[int, object]


def write_tiny_gguf(path: Path, *, seed: int = 0) -> None:
    """Write a model of llama's architecture whose tokens are the printable bytes."""
    tensors = dict(_tensors(np.random.default_rng(seed)))
    metadata = _metadata()
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    body = b"".join(
        _text(key) + struct.pack("<I", kind) + _value(kind, value) for key, (kind, value) in metadata.items()
    )
    shapes, data = b"", b""
    for name, values in tensors.items():
        dimensions = values.shape[::-1]  # ggml counts from the innermost
        shapes += _text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, _F32, len(data))
        data += _aligned(values.astype("<f4").tobytes())
    path.write_bytes(_aligned(head + body + shapes) + data)


def _metadata() -> Mapping[str, Field]:
    return {
        "general.architecture": (_STRING, "llama"),
        "general.name": (_STRING, "tiny"),
        "llama.context_length": (_UINT32, CONTEXT),
        "llama.embedding_length": (_UINT32, WIDTH),
        "llama.block_count": (_UINT32, LAYERS),
        "llama.feed_forward_length": (_UINT32, HIDDEN),
        "llama.rope.dimension_count": (_UINT32, WIDTH // HEADS),
        "llama.attention.head_count": (_UINT32, HEADS),
        "llama.attention.head_count_kv": (_UINT32, HEADS),
        "llama.attention.layer_norm_rms_epsilon": (_FLOAT32, 1e-5),
        "tokenizer.ggml.model": (_STRING, "llama"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, _TOKENS)),
        "tokenizer.ggml.scores": (_ARRAY, (_FLOAT32, [0.0] * len(_TOKENS))),
        "tokenizer.ggml.token_type": (_ARRAY, (_INT32, _KINDS)),
        "tokenizer.ggml.bos_token_id": (_UINT32, 1),
        "tokenizer.ggml.eos_token_id": (_UINT32, 2),
        "tokenizer.ggml.unknown_token_id": (_UINT32, 0),
    }


def _tensors(rng: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float64]]]:
    def random(*shape: int) -> NDArray[np.float64]:
        return rng.normal(0, 0.1, shape)

    yield "token_embd.weight", random(len(_TOKENS), WIDTH)
    for layer in range(LAYERS):
        yield f"blk.{layer}.attn_norm.weight", np.ones(WIDTH)
        for part in ("q", "k", "v", "output"):
            yield f"blk.{layer}.attn_{part}.weight", random(WIDTH, WIDTH)
        yield f"blk.{layer}.ffn_norm.weight", np.ones(WIDTH)
        yield f"blk.{layer}.ffn_gate.weight", random(HIDDEN, WIDTH)
        yield f"blk.{layer}.ffn_up.weight", random(HIDDEN, WIDTH)
        yield f"blk.{layer}.ffn_down.weight", random(WIDTH, HIDDEN)
    yield "output_norm.weight", np.ones(WIDTH)
    yield "output.weight", random(len(_TOKENS), WIDTH)


def _value(kind: int, value: object) -> bytes:
    match value:
        case str(text):
            return _text(text)
        case (int(inner), Sequence() as values):
            return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, each) for each in values)
        case _:
            return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f"}[kind], value)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
