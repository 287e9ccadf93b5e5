"""Where a request's texts lie, and putting other texts there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from controlplane.gateway.many_values import refuse_many_values

TEXT_FIELDS = frozenset(
    {"messages", "prompt", "input", "system", "instructions", "suffix", "query", "documents", "text_1", "text_2"}
    | {"queries", "data_1", "data_2", "data", "tools", "functions", "chat_template", "chat_template_kwargs"}
)
_NO_TEXTS = frozenset({"role", "type", "id", "tool_call_id", "tool_use_id", "media_type", "detail", "format"})
_MEDIA = frozenset({"image_url", "input_audio", "video_url", "audio_url", "file", "source", "image", "file_data"})


_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_IDS = re.compile(rb"\s*\[\s*(?:\[\s*)?[0-9]")


class Texts(NamedTuple):
    """The texts of a request, and whether some of it is token ids."""

    fields: dict[str, Any]
    places: list[tuple[Any, Any]]  # holder and key
    token_ids: bool


def read_texts(body: bytes) -> Texts:
    """Find them in a body, whose token ids are not built.

    Raises ValueError for one that is no JSON object, RequestRefused (400) for one of too many values.
    """
    return texts_of(_decoded(body))


def read_long_text(body: bytes) -> Texts | None:
    """Find them in a body that is little else than text (`body.is_long_text`). None: `read_texts` is to decide."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return texts_of(fields) if isinstance(fields, dict) else None


def texts_of(fields: dict[str, Any]) -> Texts:
    """Find them in a parsed body."""
    places: list[tuple[Any, Any]] = []
    for name in fields:
        if name in TEXT_FIELDS:
            _find_texts(fields, name, places)
    given = (fields.get("prompt"), fields.get("input"))
    return Texts(fields, places, any(isinstance(each, msgspec.Raw) or _is_ids(each) for each in given if each))


def written(fields: Mapping[str, Any]) -> bytes:
    """Return the body with its texts as they are now."""
    if any(isinstance(each, msgspec.Raw) for each in fields.values()):
        return msgspec.json.encode(fields)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _decoded(body: bytes) -> dict[str, Any]:
    """Parse a body; what holds no texts stays as it is written: millions of token ids take long to build."""
    try:
        fields = {name: _field(name, raw) for name, raw in _raw_fields.decode(body).items()}
    except (msgspec.DecodeError, UnicodeError):  # it knows no lone surrogates
        fields = json.loads(body)
    if not isinstance(fields, dict):
        raise ValueError("no object")
    return fields


def _field(name: str, raw: msgspec.Raw) -> Any:
    if name not in TEXT_FIELDS or _IDS.match(bytes(memoryview(raw)[:64])):
        return raw
    refuse_many_values(bytes(raw))
    return msgspec.json.decode(raw)


def _find_texts(holder: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    """Append what is below a field, in its order. Raises RecursionError for what is nested too deeply."""
    value = holder[key]
    if isinstance(value, str):
        places.append((holder, key))
    elif isinstance(value, dict):
        for name in value:
            if name not in _NO_TEXTS and name not in _MEDIA:
                _find_texts(value, name, places)
    elif isinstance(value, list) and not _is_ids(value):
        for index in range(len(value)):
            _find_texts(value, index, places)


def _is_ids(value: object) -> bool:
    """Say whether a value is token ids, or several prompts of them."""
    if not isinstance(value, list) or not value:
        return False
    first = value[0][0] if isinstance(value[0], list) and value[0] else value[0]
    return isinstance(first, int) and not isinstance(first, bool)
