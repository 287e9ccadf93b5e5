"""Reading a request's body and finding in it what the gateway must know, without holding up the event loop.

JSON parsers keep Python's lock while they run: 20 MiB of token ids took `json.loads` 0.3 to 3 s, in which no stream
moved. A large body is therefore skimmed on a thread of its own by msgspec, which skips prompts and does not build them.
One that is little else than text is no trouble, and the way to a thread and back takes a third of a millisecond.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

import msgspec
from aiohttp import StreamReader, web

from controlplane.gateway.engine_only import ENGINE_ONLY_FIELDS
from controlplane.gateway.fingerprint import BLOCK_IDS, MOST_BLOCKS, Fingerprints, Prompt
from controlplane.gateway.long_ids import shortened
from controlplane.gateway.many_values import refuse_many_values
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.parsing import parsed

T = TypeVar("T")
A = TypeVarTuple("A")

SMALL_BYTES = 64 << 10
"""Up to here a body is understood on the spot, in a millisecond or two."""

LONG_TEXT_BYTES = 1 << 20
"""Up to here a body that is little else than text is understood on the spot too."""

_MOST_QUOTES = 256
_MOST_AROUND_BYTES = 4 << 10  # of a long text: names, numbers and brackets, each of which takes its time
_BACKSLASH = ord("\\")

_MOST_ID_BYTES = 12  # of one token id with its comma and a space
_SHOWN_BYTES = BLOCK_IDS * MOST_BLOCKS * _MOST_ID_BYTES

_MOST_MEMBERS = 100

_ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# Two at a time: what is understood here waits for Python's lock anyway, and writing records must not wait behind it.
_readers = ThreadPoolExecutor(2, thread_name_prefix="body")


class Understood(NamedTuple):
    """What a body says: its fields (of a large one only those that the gateway looks at) and its prompt's prints.

    `whole` are all fields of a small JSON body.
    """

    fields: Mapping[str, Any]
    prompt: Prompt
    whole: dict[str, Any] | None = None


_LOOKED_AT = (
    *("model", "stream", "user", "prompt_cache_key", "cache_salt", "max_tokens", "max_completion_tokens"),
    *("max_output_tokens", "n", "messages", "tools", "request_id", "vllm_xargs", *sorted(ENGINE_ONLY_FIELDS)),
)
"""The fields of a large body. Prompts stay as they are written: building millions of ids takes too long."""

_AS_WRITTEN = [(name, msgspec.Raw, msgspec.Raw(b"null")) for name in (*_LOOKED_AT, "prompt", "input")]
_Skimmed = msgspec.defstruct("_Skimmed", _AS_WRITTEN)
_skim = msgspec.json.Decoder[Any](_Skimmed)


async def read_body(request: web.Request, max_bytes: int, within_s: float) -> bytes:
    """Return the body, decompressed.

    Raises RequestRefused when it is larger than `max_bytes` (413), odd (400, 415) or has not come `within_s` (408).

    The limit holds for what is sent and for what comes out of it, so that a decompression bomb ends at the limit.
    """
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    try:
        if request.content.is_eof():  # all of it came with the head
            body = request.content.read_nowait()
        else:
            async with asyncio.timeout(within_s):
                body = await _all_of(request.content, max_bytes)
    except TimeoutError as error:
        text = f"The body did not come within {within_s:g} s."
        raise RequestRefused(408, text, code="body_too_slow", headers={"Connection": "close"}) from error
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    said = request.headers.get("Content-Encoding")
    encoding = "identity" if said is None else said.strip().lower()
    if encoding == "identity":
        return body
    if encoding not in _ENCODINGS:
        raise RequestRefused(415, "The body's Content-Encoding is not supported: gzip or deflate.", code="bad_encoding")
    return await _on_thread(_unpacked, body, _ENCODINGS[encoding], max_bytes)


async def _all_of(content: StreamReader, max_bytes: int) -> bytes:
    """Return a body, or a little more than `max_bytes` of it. aiohttp's own reading copies it three times in one go."""
    parts, size = [], 0
    while size <= max_bytes and (part := await content.readany()):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


async def understand(body: bytes, fingerprints: Fingerprints) -> Understood:
    """Find what the gateway needs. Raises RequestRefused (400) when the body is no JSON object."""
    if len(body) <= SMALL_BYTES:
        fields = _parse(body)
        return Understood(fields, fingerprints.prompt(fields), fields)
    if is_long_text(body):
        return _read(body, fingerprints)
    return await _on_thread(_skimmed, body, fingerprints)


def is_long_text(body: bytes) -> bool:
    """Say whether a body is little else than a few texts without escaped quotes: read in a millisecond or two."""
    if len(body) > LONG_TEXT_BYTES:
        return False
    around, at = 0, 0
    for number in range(_MOST_QUOTES):
        quote = body.find(b'"', at)
        if quote < 0:
            return number % 2 == 0 and around + len(body) - at <= _MOST_AROUND_BYTES
        if number % 2 == 0:
            around += quote - at
        elif body[quote - 1] == _BACKSLASH:
            return False
        at = quote + 1
    return False


async def _on_thread(work: Callable[[*A], T], *arguments: *A) -> T:
    return await asyncio.get_running_loop().run_in_executor(_readers, work, *arguments)


def _unpacked(packed: bytes, window_bits: int, max_bytes: int) -> bytes:
    """Decompress every member of a body, at most up to the limit; zlib lets go of Python's lock meanwhile."""
    found, rest, members = b"", packed, 0
    try:
        while rest:
            members += 1
            if members > _MOST_MEMBERS:  # each copies what follows it: a megabyte of empty ones would take minutes
                raise RequestRefused(400, f"The body has more than {_MOST_MEMBERS} members.", code="bad_encoding")
            unpacker = zlib.decompressobj(window_bits)
            found += unpacker.decompress(rest, max_bytes + 1 - len(found))
            if len(found) > max_bytes:
                raise _too_large(max_bytes)
            if not unpacker.eof:
                raise RequestRefused(400, "The compressed body is incomplete.", code="bad_encoding")
            rest = unpacker.unused_data
    except zlib.error as error:
        raise RequestRefused(
            400, "The body is not compressed as its Content-Encoding says.", code="bad_encoding"
        ) from error
    return found


def _parse(body: bytes) -> dict[str, Any]:
    try:
        fields = parsed(body)
    except (ValueError, RecursionError) as error:
        raise _not_json() from error
    if not isinstance(fields, dict):
        raise RequestRefused(400, "The body must be a JSON object.", code="invalid_json")
    return fields


def _too_large(max_bytes: int) -> RequestRefused:
    return RequestRefused(413, f"The body is larger than {max_bytes} bytes.", code="request_too_large")


def _not_json() -> RequestRefused:
    return RequestRefused(400, "The body is not valid JSON.", code="invalid_json")


def _skimmed(body: bytes, fingerprints: Fingerprints) -> Understood:
    short = shortened(body, _SHOWN_BYTES)
    if short is not None:
        read = _skimmed_whole(short.body, fingerprints, expected=short.kept)
        if read is not None:
            return read._replace(prompt=read.prompt._replace(tokens=short.ids))
    return _read(body, fingerprints)


def _read(body: bytes, fingerprints: Fingerprints) -> Understood:
    read = _skimmed_whole(body, fingerprints)
    assert read is not None, "nothing was expected of it"
    return read


def _skimmed_whole(body: bytes, fingerprints: Fingerprints, expected: bytes | None = None) -> Understood | None:
    """Read all of it at once; None where the prompt is another than was expected."""
    try:
        found = _skim.decode(body)
        given = found.prompt if bytes(found.prompt) != b"null" else found.input
        raw = bytes(given).strip()
        if expected is not None and raw != expected:
            return None
        prompt, ids = _shown(raw)
        fields = {name: _value(bytes(getattr(found, name))) for name in _LOOKED_AT}
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise _not_json() from error
    taken = fingerprints.prompt({**fields, "prompt": prompt})
    return Understood(fields, taken if ids is None else taken._replace(tokens=ids))


def _value(raw: bytes) -> Any:
    if len(raw) > SMALL_BYTES and not is_long_text(raw):
        refuse_many_values(raw)
    return msgspec.json.decode(raw)


def _shown(raw: bytes) -> tuple[Any, int | None]:
    """Return as much of a prompt as its fingerprint covers, and the number of its token ids where ids were left out."""
    first = raw[1:64].lstrip()[:1]
    if len(raw) <= _SHOWN_BYTES or raw[:1] != b"[" or first == b'"':
        return _value(raw), None
    if not first.isdigit():
        return None, None  # lists of lists: several prompts in one request have no fingerprint
    head = raw[:_SHOWN_BYTES]
    return msgspec.json.decode(head[: head.rindex(b",")] + b"]"), raw.count(b",") + 1
