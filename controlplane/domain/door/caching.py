"""Which answers may be kept and given again, and by what they are known. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.door.similar import SemanticOptions

CHAT_PATH = "/v1/chat/completions"
CACHED_PATHS = frozenset({CHAT_PATH, "/v1/completions", "/v1/embeddings"})

_EMBEDDINGS = "/v1/embeddings"
_SEVERAL = frozenset({"n", "best_of"})
_TOOLS = frozenset({"tools", "functions"})
_OF_TOOLS = frozenset({"tool_calls", "function_call", "tool_call_id"})
_OF_TOOL_ROLES = ("tool", "function")
_LISTS, _NUMBERS = (list, tuple), (int, float)
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_quickly = msgspec.json.Encoder(order="sorted").encode
_SAYS_NOTHING = frozenset({"user", "prompt_cache_key", "priority", "request_id", "metadata"})
"""Fields that change who asks or how soon, not what an engine answers. `cache_salt` is none of them: it separates."""


class CacheMode(StrEnum):
    """Whose answers are kept."""

    OFF = "off"
    ON_REQUEST = "on_request"  # of callers that ask for it by header
    GREEDY = "greedy"  # and of requests whose answer does not depend on chance
    ALL = "all"  # and of sampled ones: who asks twice gets the same sample


class CacheWish(StrEnum):
    """What the caller says in its header."""

    USE = "use"
    NO = "no"  # neither looked up nor kept
    REFRESH = "refresh"  # asked anew, and kept


class CacheOptions(Value):
    """Which answers of a service are kept and given again. Never of requests with tools, pictures or sensitive data."""

    mode: CacheMode = Field(
        default=CacheMode.OFF,
        description="off; on_request: of callers that send `X-Fleetune-Cache: use`; greedy: and of requests of "
        "temperature 0; all: and of sampled ones.",
    )
    ttl_s: float = Field(default=3600, gt=0, description="How long an answer is given again.")
    semantic: SemanticOptions | None = Field(
        default=None, description="Find answers of questions that sound alike too. None: only of equal ones."
    )
    largest_answer_bytes: int = Field(default=1 << 20, ge=1, description="Larger ones are not kept.")


class Partition(NamedTuple):
    """Whose answers: nothing is ever given beyond them. The revision is the one that leads when it is looked up."""

    tenant: str
    service: str
    revision: str


def may_be_cached(options: CacheOptions, path: str, fields: Mapping[str, Any], wish: CacheWish | None) -> bool:
    """Say whether the answer of a request may be looked up and kept."""
    if wish is CacheWish.NO or path not in CACHED_PATHS or not is_plain(fields):
        return False
    greedy = path == _EMBEDDINGS or _is_greedy(fields)
    several = not _SEVERAL.isdisjoint(fields) and any(
        fields[name] not in (None, 1) for name in _SEVERAL & fields.keys()
    )
    if several and not greedy:
        return False  # several samples are asked for because they differ
    match options.mode:
        case CacheMode.OFF:
            return False
        case CacheMode.ON_REQUEST:
            return wish is not None
        case CacheMode.GREEDY:
            return greedy or wish is not None
        case CacheMode.ALL:
            return True


def is_plain(fields: Mapping[str, Any]) -> bool:
    """Say whether a request is text alone: no tools, no pictures or sounds, nothing kept at the engine."""
    if not _TOOLS.isdisjoint(fields) and any(fields[name] for name in _TOOLS & fields.keys()):
        return False
    if fields.get("previous_response_id"):
        return False
    messages = fields.get("messages", ())
    return isinstance(messages, _LISTS) and all(map(_is_plain_message, messages))


def cache_key(partition: Partition, path: str, query: str, fields: Mapping[str, Any]) -> bytes:
    """Return 32 bytes that are equal for requests whose answers are the same: all that an engine heeds is in them.

    The form of the answer (`stream`, `stream_options`) is in them too: what is given again is what was sent, byte for
    byte. The order of JSON's fields is not.
    """
    heeded = {name: value for name, value in fields.items() if name not in _SAYS_NOTHING}
    return hashlib.sha256(_written([*partition, path, query, heeded])).digest()


def _written(said: object) -> bytes:
    """Return JSON that is equal for equal values only. msgspec writes NaN, infinity and None all as null."""
    try:
        quickly = _quickly(said)
    except (OverflowError, UnicodeError):  # numbers beyond 64 bits, lone surrogates
        return _encoded(said).encode()
    return _encoded(said).encode() if b"null" in quickly else quickly


def _is_greedy(fields: Mapping[str, Any]) -> bool:
    """Zero, said aloud: where nothing is said an engine samples, by its model's generation_config."""
    temperature = fields.get("temperature")
    return isinstance(temperature, _NUMBERS) and not isinstance(temperature, bool) and temperature == 0


def _is_plain_message(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    content = message.get("content")
    if len(message) == 2 and "role" in message and isinstance(content, str):  # as most are
        return message["role"] not in _OF_TOOL_ROLES
    if not _OF_TOOLS.isdisjoint(message) and any(message[name] for name in _OF_TOOLS & message.keys()):
        return False
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return message.get("role") not in _OF_TOOL_ROLES and (content is None or isinstance(content, str))
