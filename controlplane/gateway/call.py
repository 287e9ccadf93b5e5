"""A client's request as the gateway understands it: which model, whether it streams, which session it belongs to."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from controlplane.domain.door.identity import Principal
from controlplane.gateway.answer_notes import tool_names
from controlplane.gateway.body import Understood, read_body, understand
from controlplane.gateway.engine_only import ENGINE_ONLY_HEADERS, refuse_engine_only
from controlplane.gateway.fingerprint import Fingerprints, Prompt
from controlplane.gateway.forms import form_fields
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.paths import PASSED_ON, Shape

SESSION_HEADER = "X-Session-Id"
REQUEST_ID_HEADER = "X-Request-Id"

_BYTES_PER_TOKEN = 4
_USUAL_ANSWER_TOKENS = 256
_MOST_TOKENS = 10**9
"""More is no answer's length: a number of a thousand digits is none that could be counted with."""
_LONGEST_NUMBER = 20
_NUMBER = re.compile(r"\s*\+?[0-9]+(?:_[0-9]+)*(?:\.0*)?\s*", re.ASCII)
_NAMES_AT_ONCE = 256
_LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_GENERATING = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/invocations"})

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authenticate", "proxy-authorization"}
)
# Credentials are the gateway's business; lengths and encodings are those of the body as the gateway sends it.
_KEPT_BACK = _HOP_BY_HOP | {"host", "authorization", "cookie", "api-key", "x-api-key", "expect"}
_KEPT_BACK |= {"content-length", "content-encoding", "accept-encoding", "x-fleetune-cache"} | ENGINE_ONLY_HEADERS
# Which pages may read answers is the gateway's to say: engines allow all of them unless told otherwise.
_KEPT_BACK |= {"origin", "access-control-request-method", "access-control-request-headers"}
_OF_PAGES = ("allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers", "max-age")
_NOT_TOLD = _HOP_BY_HOP | {"content-length", "set-cookie"} | {f"access-control-{name}" for name in _OF_PAGES}


def _random_names() -> Iterator[str]:
    """Names of 128 random bits. The system is asked for many at a time: each asking is a call of the kernel."""
    while True:
        drawn = os.urandom(16 * _NAMES_AT_ONCE).hex()
        yield from (drawn[at : at + 32] for at in range(0, len(drawn), 32))


_names = _random_names()


class Call(NamedTuple):
    """One request, read and understood. `body` is exactly what the client sent."""

    request_id: str
    path: str
    query: str
    headers: CIMultiDict[str]
    body: bytes
    model: str
    stream: bool
    session: str | None
    key: Principal | None
    session_hash: str | None
    prompt: Prompt
    answer_tokens: int  # the longest answer asked for
    adapter: str | None = None  # the version of an adapter that it gets, as engines call it
    version: str | None = None  # the version that the client asked for by name; `model` is the model's own
    tools: frozenset[str] = frozenset()  # functions that the model may call
    own_salt: object = None  # `cache_salt` as the client wrote it
    cache_salt: str | None = None  # what engines that heed it keep its prefixes apart by; None: as the body says

    @property
    def expected_prompt_tokens(self) -> int:
        """Tokens of the prompt: token ids are counted, of text some 4 bytes are one."""
        known = self.prompt.tokens
        return known if known is not None else (self.prompt.text_bytes or 0) // _BYTES_PER_TOKEN

    @property
    def reserved_tokens(self) -> int:
        """What the request may use, prompt and answer."""
        return self.expected_prompt_tokens + self.answer_tokens


class Read(NamedTuple):
    """A request that was read. `fields` are those of a small JSON body, None those of any other."""

    call: Call
    fields: dict[str, Any] | None


async def read_call(
    request: web.Request,
    *,
    path: str,
    key: Principal | None,
    max_body_bytes: int,
    body_within_s: float,
    fingerprints: Fingerprints,
    only_model: str | None,
) -> Read:
    """Read a request to `path`, which is `request.path` without a slash at its end.

    `only_model` is what is asked where vLLM needs no `model`. Raises RequestRefused when the body is too large (413),
    too slow (408) or cannot be understood (400).
    """
    passed = PASSED_ON[path]
    body = await read_body(request, max_body_bytes, body_within_s)
    if passed.shape is Shape.FORM:
        understood = Understood(form_fields(body, ", ".join(request.headers.getall("Content-Type", ()))), Prompt())
    else:
        understood = await understand(body, fingerprints)
    fields = understood.fields
    refuse_engine_only(path, fields)
    model = fields.get("model", None if passed.needs_model else only_model)
    if not isinstance(model, str) or not model:
        raise RequestRefused(400, "`model` is missing or not a string.", code="missing_model", param="model")
    request_id = next(_names)
    session = session_of(request.headers, fields)
    call = Call(
        request_id=request_id,
        path=path,
        query=request.rel_url.raw_query_string,
        headers=_upstream_headers(request.headers, request_id),
        body=body,
        model=model,
        stream=fields.get("stream") in (True, "true", "True"),
        session=session,
        key=key,
        session_hash=fingerprints.session(session),
        prompt=understood.prompt,
        answer_tokens=_answer_tokens(path, fields),
        tools=tool_names(fields),
        own_salt=fields.get("cache_salt"),
    )
    return Read(call, understood.whole)


def _answer_tokens(path: str, fields: Mapping[str, Any]) -> int:
    """Return the longest answer asked for; where none is named, what is usual: it is put right afterwards."""
    if path not in _GENERATING:
        return 0
    longest = 0
    for name in _LENGTHS:
        if name in fields:  # engines heed one or the other, by the path: the largest, or a small one would hide it
            longest = max(longest, _count(fields[name]))
    several = (_count(fields.get("n")) or 1) * _prompts(fields.get("prompt"))
    return min(_MOST_TOKENS, (longest or _USUAL_ANSWER_TOKENS) * several)


def _prompts(given: object) -> int:
    """Return how many prompts a completion has, each of which is answered."""
    several = isinstance(given, list) and bool(given) and isinstance(given[0], str | list)
    return len(given) if several and isinstance(given, list) else 1


def _count(value: object) -> int:
    """Return a number of tokens or answers, 0 for what is none.

    Engines (pydantic's) take `16.0`, `"16"`, `" +16 "`, `"1_6"` and `"16.0"` for 16 too.
    """
    if value is None:
        return 0
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
        value = int(value.partition(".")[0])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        return 0
    return min(_MOST_TOKENS, int(value))


def session_of(headers: Mapping[str, str], fields: Mapping[str, Any]) -> str | None:
    """Return what names the client's session: the header, else `user`, else `prompt_cache_key`; None when none does."""
    for name in (headers.get(SESSION_HEADER), fields.get("user"), fields.get("prompt_cache_key")):
        if name and isinstance(name, str):
            return name
    return None


def response_headers(headers: MultiMapping[str], request_id: str, revision: str) -> CIMultiDict[str]:
    """Return an upstream answer's headers as the client may see them, with the revision that answered."""
    kept = _without(headers, _NOT_TOLD)
    kept[REQUEST_ID_HEADER] = request_id
    kept["X-Fleetune-Revision"] = revision
    return kept


def _upstream_headers(headers: MultiMapping[str], request_id: str) -> CIMultiDict[str]:
    kept = _without(headers, _KEPT_BACK)
    kept["Accept-Encoding"] = "identity"  # a compressed stream could be neither watched nor ended with an error event
    kept.setdefault("Content-Type", "application/json")
    kept[REQUEST_ID_HEADER] = request_id  # engines tell requests apart by it: nobody may take another's
    return kept


def _without(headers: MultiMapping[str], dropped: frozenset[str]) -> CIMultiDict[str]:
    """Return the headers without some, and without those that `Connection` names."""
    if "Connection" in headers:
        named = ",".join(headers.getall("Connection"))
        dropped = dropped | {name.strip().lower() for name in named.split(",")}
    return CIMultiDict([each for each in headers.items() if each[0].lower() not in dropped])
