"""Lines of batches: what is a request, and what is written of its answer. Pure.

Nothing of a body or an answer is built: a JSON parser keeps Python's lock while it runs, for seconds where one is a
long list of token ids, and no stream moves meanwhile. msgspec skips what is not looked at.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import msgspec

from controlplane.domain.door.batch import LineError

LONGEST_LINE_BYTES = 32 << 20
_SHORT_BYTES = 64 << 10
"""Up to here all is taken that Python's own parser takes, half a surrogate pair say; beyond it strict JSON only."""


class Line(NamedTuple):
    """One request of a batch. `body` is the JSON object that its owner wrote, byte for byte."""

    custom_id: str
    body: bytes


def read_line(raw: bytes, number: int, endpoint: str) -> Line | LineError:
    """Return a line's request, or what is wrong with it. `number` counts from 1."""
    if len(raw) > LONGEST_LINE_BYTES:
        text = f"This line is longer than {LONGEST_LINE_BYTES} bytes."
        return LineError(line=number, code="line_too_long", message=text)
    try:
        given = _given(raw)
        custom_id = _text(given.custom_id)
        wrong = _wrong(custom_id, given, endpoint)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return LineError(line=number, code="invalid_json_line", message="This line is no JSON object.")
    if wrong is not None:
        return LineError(line=number, code="invalid_request", message=wrong)
    assert custom_id is not None  # that would have been wrong
    return Line(custom_id, bytes(given.body))


class _Given(msgspec.Struct, frozen=True):
    """A line, its fields as they are written."""

    custom_id: msgspec.Raw = msgspec.Raw(b"null")
    method: msgspec.Raw = msgspec.Raw(b"null")
    url: msgspec.Raw = msgspec.Raw(b"null")
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Streamed(msgspec.Struct, frozen=True):
    stream: msgspec.Raw = msgspec.Raw(b"null")


_read_given = msgspec.json.Decoder(_Given).decode
_read_streamed = msgspec.json.Decoder(_Streamed).decode
_encoded = msgspec.json.Encoder().encode
_NOT_STREAMED = frozenset({b"null", b"false", b"0"})


def _given(raw: bytes) -> _Given:
    """Read a line. Of a short one all is taken that Python's own parser takes, half a surrogate pair say."""
    try:
        return _read_given(raw)
    except msgspec.MsgspecError:
        if len(raw) > _SHORT_BYTES:
            raise
        fields = json.loads(raw)
        if not isinstance(fields, dict):
            raise
        return _Given(**{name: _rewritten(fields[name]) for name in _Given.__struct_fields__ if name in fields})


def _rewritten(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def _text(raw: msgspec.Raw) -> str | None:
    """Return the text that a field is; None of any other and of none."""
    written = bytes(raw)
    if not written.startswith(b'"'):
        return None
    try:
        return str(msgspec.json.decode(written)) or None
    except msgspec.MsgspecError:
        return str(json.loads(written))


def _wrong(custom_id: str | None, given: _Given, endpoint: str) -> str | None:
    if custom_id is None:
        return "`custom_id` is missing or no text."
    if _text(given.method) != "POST":
        return "`method` must be POST."
    if _text(given.url) != endpoint:
        return f"`url` must be the batch's endpoint, {endpoint}."
    if not bytes(given.body).startswith(b"{"):
        return "`body` is missing or no object."
    return None if _stream_of(bytes(given.body)) in _NOT_STREAMED else "`stream` cannot be true in a batch."


def _stream_of(body: bytes) -> bytes:
    try:
        return bytes(_read_streamed(body).stream)
    except msgspec.MsgspecError:
        if len(body) > _SHORT_BYTES:
            raise
        return json.dumps(json.loads(body).get("stream")).encode()


def result_line(batch_id: str, number: int, line: Line, status: int, request_id: str, answer: bytes) -> bytes:
    """Return the line of an output or error file for an answered request; what is no JSON is null there."""
    head = {"status_code": status, "request_id": request_id}
    response = _encoded(head)[:-1] + b',"body":' + _on_one_line(answer) + b"}"
    return _line(batch_id, number, line.custom_id, response, b"null")


def failure_line(batch_id: str, number: int, line: Line, code: str, message: str) -> bytes:
    """Return the line of an error file for a request that got no answer."""
    return _line(batch_id, number, line.custom_id, b"null", _encoded({"code": code, "message": message}))


def _line(batch_id: str, number: int, custom_id: str, response: bytes, error: bytes) -> bytes:
    said = json.dumps({"id": f"{batch_id}-{number}", "custom_id": custom_id}, ensure_ascii=False, separators=(",", ":"))
    return said[:-1].encode("utf-8", "surrogatepass") + b',"response":' + response + b',"error":' + error + b"}"


def _on_one_line(answer: bytes) -> bytes:
    """Return an answer's JSON as it was written, but for line ends between its parts."""
    try:
        answer.decode()
        msgspec.json.decode(answer, type=msgspec.Raw)
        return msgspec.json.format(answer, indent=-1) if b"\n" in answer or b"\r" in answer else answer
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _rewritten_answer(answer)


def _rewritten_answer(answer: bytes) -> bytes:
    try:
        return json.dumps(json.loads(answer), separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return b"null"
