"""The fields of a multipart form, read as every engine reads them; a form that two parsers might read apart is refused.

Who may ask one model could else name another where only the engine looks: in a second field of the name, behind an
unquoted name, behind a long head, in what one of them takes for the end of a field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from controlplane.gateway.openai_errors import RequestRefused

MOST_PARTS = 1000

_LONGEST_HEAD_BYTES = 4096  # of a part
_LONGEST_VALUE_BYTES = 4096  # told of a field: what the gateway looks at is short
_TYPE = re.compile(
    r"multipart/form-data\s*;(?:\s*charset=[\w-]+\s*;)?\s*"
    r"boundary=(?:\"([^\"\\\r\n]{1,70})\"|([A-Za-z0-9'()+_,./:=?-]{1,70}))(?:\s*;\s*charset=[\w-]+)?\s*",
    re.IGNORECASE,
)
_TOLD = rb"\"(?:[^\"\\\r\n]|\\.)*\""
_DISPOSITION = re.compile(
    rb"form-data\s*;\s*name=\"([^\"\\\r\n]*)\"(\s*;\s*filename=" + _TOLD + rb")?(\s*;\s*filename\*=[^\s;\"]+)?",
    re.IGNORECASE,
)
_PLAIN = frozenset({b"7bit", b"8bit", b"binary"})  # encodings of a part that are none
_SEVERAL = "[]"  # how the name of a field ends that may come again, as in `timestamp_granularities[]`


class _Part(NamedTuple):
    name: str
    value: bytes
    is_file: bool


def form_fields(body: bytes, content_type: str) -> Mapping[str, str]:
    """Return a form's fields without its files, the first 4,096 bytes of each. Raises RequestRefused (400)."""
    kind = _TYPE.fullmatch(content_type.strip())
    if kind is None:
        raise _odd("The body must be multipart/form-data with one boundary.")
    fields: dict[str, str] = {}
    seen: set[str] = set()
    for part in map(_read, _parts(body, (kind[1] or kind[2]).encode("utf-8", "surrogateescape"))):
        if part.name in seen and not part.name.endswith(_SEVERAL):
            raise _odd("The form has two fields of one name.")
        seen.add(part.name)
        if not part.is_file:
            fields[part.name] = part.value[:_LONGEST_VALUE_BYTES].decode(errors="replace")
    return fields


def _parts(body: bytes, boundary: bytes) -> Sequence[bytes]:
    """Return what stands between boundaries, each of which begins a line."""
    before, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, MOST_PARTS + 1)
    if len(parts) > MOST_PARTS:  # of a boundary of one letter there may be millions
        raise _odd(f"The form has more than {MOST_PARTS} parts.")
    if before.strip(b"\r\n") or not parts or parts[-1].rstrip(b"\r\n") != b"--":
        raise _odd("The form does not begin and end with its boundary.")
    return parts[:-1]


def _read(part: bytes) -> _Part:
    end = part.find(b"\r\n\r\n", 0, _LONGEST_HEAD_BYTES)
    if end < 0 or not part.startswith(b"\r\n"):
        raise _odd("A part of the form has no head, or a long one.")
    named = [_header(line) for line in part[2:end].split(b"\r\n")]
    told = [value for name, value in named if name == b"content-disposition"]
    match = _DISPOSITION.fullmatch(told[0]) if len(told) == 1 else None
    if match is None or any(
        name == b"content-transfer-encoding" and value.lower() not in _PLAIN for name, value in named
    ):
        raise _odd('A part of the form is not told plainly: `Content-Disposition: form-data; name="..."`.')
    return _Part(match[1].decode(errors="replace"), part[end + 4 :], bool(match[2] or match[3]))


def _header(line: bytes) -> tuple[bytes, bytes]:
    """Return a header's name in small letters and its value; a line that goes on with the one before is refused."""
    name, colon, value = line.partition(b":")
    if not colon or name != name.strip():
        raise _odd("A part of the form has an odd head.")
    return name.lower(), value.strip()


def _odd(text: str) -> RequestRefused:
    return RequestRefused(400, text, code="invalid_form")
