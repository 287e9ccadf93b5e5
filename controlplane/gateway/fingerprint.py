"""What a record may know of a prompt: hashes of its blocks and of its session, salted per installation. Never text.

A block's hash covers everything before it too: equal hashes mean an equal beginning, as in vLLM's prefix cache. Token
ids make blocks of 16 ids, vLLM's own. Of text the gateway knows no tokens: blocks of 64 bytes (UTF-8), some 16 tokens;
how many they were follows from the engine's count of the whole prompt. The salt never leaves the machine, so nobody who
has the records can try out which text has which hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from struct import unpack
from typing import Any, NamedTuple

import msgspec

from controlplane.domain.errors import InvalidInput
from controlplane.host.files import write_first

BLOCK_IDS = 16
BLOCK_BYTES = 64
MOST_BLOCKS = 1024
"""16,384 ids or 65,536 bytes of text: what lies behind counts as not shared. About 0.6 ms of hashing."""

_ID_BYTES = 4
_HASH_BYTES = 6  # exact in JSON, and one in 3e14 for two to be equal by chance
_TO_EIGHT_BYTES = bytes(8 - _HASH_BYTES)
_SCOPE_BYTES = 16
_SALT_BYTES = 32


class Prompt(NamedTuple):
    """A prompt without its text. `tokens` is known for token ids only, `text_bytes` for text only."""

    blocks: tuple[int, ...] = ()
    tokens: int | None = None
    text_bytes: int | None = None

    def block_tokens(self, prompt_tokens: int | None) -> float:
        """Return how many tokens a block holds, given the engine's count of the prompt; 0 when nothing tells."""
        if self.tokens is not None:
            return float(BLOCK_IDS)
        if not self.text_bytes or not prompt_tokens:
            return 0.0
        return round(BLOCK_BYTES * prompt_tokens / self.text_bytes, 3)


class Fingerprints:
    """Takes fingerprints under one salt."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def session(self, session: str | None) -> str | None:
        if session is None:
            return None
        return hashlib.blake2b(session.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=8).hexdigest()

    def prompt(self, fields: Mapping[str, Any]) -> Prompt:
        """Return the fingerprint of a request body's prompt. Several prompts in one request have none."""
        scope = _scope(fields)
        given = _only(_given(fields))
        if isinstance(given, list) and given:
            return self._ids(given, scope)
        text = _text(given, fields.get("messages"), fields.get("tools"))
        if text is None:
            return Prompt()
        return Prompt(self._chain(text.covered, BLOCK_BYTES, b"text" + scope), text_bytes=text.size)

    def cache_salt(self, tenant: str, own: str | None) -> str:
        """Return what engines keep a tenant's prefixes apart by: the same at every gateway of the installation.

        `own` is what a caller wants kept apart besides. 256 bits, of which nobody learns the tenant's name.
        """
        given = b"" if own is None else b"own" + own.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(self._of(tenant) + given, key=self._salt, person=b"cache salt").hexdigest()[:64]

    def of_tenant(self, prompt: Prompt, tenant: str) -> Prompt:
        """Return the prompt with hashes that it shares with those of the same tenant only."""
        if not prompt.blocks:
            return prompt
        apart = int.from_bytes(self._of(tenant)[:_HASH_BYTES])
        return prompt._replace(blocks=tuple(block ^ apart for block in prompt.blocks))

    def _of(self, tenant: str) -> bytes:
        name = tenant.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(name, key=self._salt, digest_size=32, person=b"tenant").digest()

    def _ids(self, ids: list[Any], scope: bytes) -> Prompt:
        try:
            data = array("I", ids).tobytes()
        except (TypeError, OverflowError):  # several prompts, or nothing an engine understands
            return Prompt()
        return Prompt(self._chain(data, _ID_BYTES * BLOCK_IDS, b"ids" + scope), tokens=len(ids))

    def _chain(self, data: bytes, size: int, scope: bytes) -> tuple[int, ...]:
        """Hash whole blocks, each with all before it; the rest at the end belongs to no block, as in vLLM.

        One hash that grows, looked at after each block: hashing each with its parent's hash takes twice as long.
        """
        if len(data) < size:
            return ()
        begun = hashlib.blake2b(scope, key=self._salt, digest_size=_SCOPE_BYTES).digest()  # of one length for all
        chain = hashlib.blake2b(begun, key=self._salt, digest_size=_HASH_BYTES)
        update, digest, hashes = chain.update, chain.digest, [b""]
        for start in range(0, min(len(data) - size + 1, MOST_BLOCKS * size), size):
            update(data[start : start + size])
            hashes.append(digest())
        return unpack(f">{len(hashes) - 1}Q", _TO_EIGHT_BYTES.join(hashes))


def installation_salt(path: Path) -> bytes:
    """Return the installation's salt; the first gateway of a data folder makes it, readable by its owner only.

    Raises InvalidInput when it cannot be read or made, or is no salt.
    """
    try:
        if not path.exists():
            write_first(path, os.urandom(_SALT_BYTES))  # of several gateways that start together one wins
        salt = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot use the salt of the request records {path}", why=str(error)) from error
    if len(salt) != _SALT_BYTES:
        why = f"it has {len(salt)} bytes, not {_SALT_BYTES}"
        raise InvalidInput(f"the salt of the request records {path} is damaged", why=why, allowed="delete it")
    return salt


def _scope(fields: Mapping[str, Any]) -> bytes:
    """vLLM shares no cache between requests of different `cache_salt`."""
    scope = fields.get("cache_salt")
    return scope.encode("utf-8", "surrogatepass") if isinstance(scope, str) else b""


def _given(fields: Mapping[str, Any]) -> object:
    """Return what is asked, of whichever interface; a `null` is as good as nothing given."""
    prompt = fields.get("prompt")
    return fields.get("input") if prompt is None else prompt


def _only(given: object) -> object:
    """Return the prompt of a list of one."""
    return given[0] if isinstance(given, list) and len(given) == 1 and not isinstance(given[0], int) else given


class _Text(NamedTuple):
    """A prompt's text in UTF-8: as much of its beginning as the hashes cover, and how long all of it is."""

    covered: bytes
    size: int


def _text(given: object, messages: object, tools: object) -> _Text | None:
    if isinstance(given, str):
        return _joined([given])
    if not isinstance(messages, list):
        return None
    return _joined(_pieces(tools, messages))


def _joined(pieces: Iterable[str]) -> _Text:
    """Return the pieces with an end of line between each; what no hash covers is counted, not copied."""
    covered: list[bytes] = []
    room, size = MOST_BLOCKS * BLOCK_BYTES, 0
    for piece in pieces:
        size += 1 + _utf8_bytes(piece)
        if room > 0:
            covered.append(piece[:room].encode("utf-8", "surrogatepass"))
            room -= len(covered[-1]) + 1
    return _Text(b"\n".join(covered), max(0, size - 1))


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _pieces(tools: object, messages: list[Any]) -> Iterator[str]:
    """What a chat template makes a prompt of, in its order: tools first, then who said what."""
    if tools:
        yield json.dumps(tools)
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and len(message) == 2:
            yield str(message.get("role"))
            yield content
        else:
            parts = {"content": [_part(part) for part in content]} if isinstance(content, list) else {}
            plain = {**message, **parts} if isinstance(message, dict) else message
            yield json.dumps(plain, ensure_ascii=False)


def _part(part: object) -> object:
    """A text as it is; a picture or a sound by its digest: its bytes say nothing about its tokens."""
    if isinstance(part, dict) and part.get("type") == "text":
        return part.get("text")
    return hashlib.blake2b(_written(part), digest_size=16).hexdigest()


def _written(part: object) -> bytes:
    """Return the part as JSON; msgspec is quick with a picture of megabytes but knows no lone surrogates."""
    try:
        return msgspec.json.encode(part)
    except UnicodeEncodeError:
        return json.dumps(part).encode()
