"""A client's request as the gateway understands it: which model, whether it streams, which session it belongs to."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from controlplane.domain.door.identity import Principal
from controlplane.gateway.answer_notes import tool_names
from controlplane.gateway.body import form_fields, read_body, understand
from controlplane.gateway.fingerprint import Fingerprints, Prompt
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.paths import PASSED_ON, Shape

SESSION_HEADER = "X-Session-Id"
REQUEST_ID_HEADER = "X-Request-Id"

_BYTES_PER_TOKEN = 4
_USUAL_ANSWER_TOKENS = 256
_GENERATING = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})

_LARGE_BODY_BYTES = 512 << 10
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authenticate", "proxy-authorization"}
)
# Credentials are the gateway's business; lengths and encodings are those of the body as the gateway sends it.
_KEPT_BACK = _HOP_BY_HOP | {"host", "authorization", "cookie", "api-key", "x-api-key", "expect"}
_KEPT_BACK |= {"content-length", "content-encoding", "accept-encoding", "x-fleetune-cache"}


@dataclass(frozen=True)
class Call:
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
    tools: frozenset[str] = frozenset()  # functions that the model may call

    @property
    def expected_prompt_tokens(self) -> int:
        """Tokens of the prompt: token ids are counted, of text some 4 bytes are one."""
        known = self.prompt.tokens
        return known if known is not None else (self.prompt.text_bytes or 0) // _BYTES_PER_TOKEN

    @property
    def reserved_tokens(self) -> int:
        """What the request may use, prompt and answer."""
        return self.expected_prompt_tokens + self.answer_tokens

    def payload(self) -> bytes | io.BytesIO:
        """The body to send; large ones piecewise, so that writing them does not hold up other streams."""
        return self.body if len(self.body) <= _LARGE_BODY_BYTES else io.BytesIO(self.body)


async def read_call(
    request: web.Request,
    *,
    path: str,
    key: Principal | None,
    max_body_bytes: int,
    body_within_s: float,
    fingerprints: Fingerprints,
    only_model: str | None,
) -> Call:
    """Read a request to `path`, which is `request.path` without a slash at its end.

    `only_model` is what is asked where vLLM needs no `model`. Raises RequestRefused when the body is too large (413),
    too slow (408) or cannot be understood (400).
    """
    passed = PASSED_ON[path]
    body = await read_body(request, max_body_bytes, body_within_s)
    if passed.shape is Shape.FORM:
        fields, prompt = form_fields(body, request.headers.get("Content-Type", "")), Prompt()
    else:
        fields, prompt = await understand(body, fingerprints)
    model = fields.get("model", None if passed.needs_model else only_model)
    if not isinstance(model, str) or not model:
        raise RequestRefused(400, "`model` is missing or not a string.", code="missing_model", param="model")
    request_id = uuid.uuid4().hex
    session = session_of(request.headers, fields)
    return Call(
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
        prompt=prompt,
        answer_tokens=_answer_tokens(path, fields),
        tools=tool_names(fields),
    )


def _answer_tokens(path: str, fields: Mapping[str, Any]) -> int:
    """Return the longest answer asked for; where none is named, what is usual: it is put right afterwards."""
    if path not in _GENERATING:
        return 0
    given = map(_count, (fields.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens")))
    longest = next((count for count in given if count), _USUAL_ANSWER_TOKENS)
    return longest * (_count(fields.get("n")) or 1)


def _count(value: object) -> int:
    """Return a number of tokens or answers, 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def session_of(headers: Mapping[str, str], fields: Mapping[str, Any]) -> str | None:
    """Return what names the client's session: the header, else `user`, else `prompt_cache_key`; None when none does."""
    named = (headers.get(SESSION_HEADER), fields.get("user"), fields.get("prompt_cache_key"))
    return next((name for name in named if isinstance(name, str) and name), None)


def response_headers(headers: CIMultiDictProxy[str], request_id: str, revision: str) -> CIMultiDict[str]:
    """Return an upstream answer's headers as the client may see them, with the revision that answered."""
    dropped = _hop_by_hop(headers) | {"content-length"}
    kept = CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
    kept[REQUEST_ID_HEADER] = request_id
    kept["X-Fleetune-Revision"] = revision
    return kept


def _upstream_headers(headers: CIMultiDictProxy[str], request_id: str) -> CIMultiDict[str]:
    dropped = _KEPT_BACK | _hop_by_hop(headers)
    kept = CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
    kept["Accept-Encoding"] = "identity"  # a compressed stream could be neither watched nor ended with an error event
    kept.setdefault("Content-Type", "application/json")
    kept.setdefault(REQUEST_ID_HEADER, request_id)
    return kept


def _hop_by_hop(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    named = ",".join(headers.getall("Connection", ()))
    return _HOP_BY_HOP | {name.strip().lower() for name in named.split(",") if name.strip()}
