"""`POST /v1/feedback`: what a person thought of an answer, as a score for its request. Never text."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.identity import Principal
from controlplane.gateway.body import read_body, understand
from controlplane.gateway.call import session_of
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.openai_errors import RequestRefused

PATH = "/v1/feedback"
_LARGEST_BYTES = 4096
_FIELDS = frozenset({"request_id", "score", "user"})
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_BODY_WITHIN_S = 15.0


@dataclass(frozen=True)
class FeedbackPort:
    """Takes scores. Whether a request was ours, and of the same key, is seen when scores and records are joined."""

    gateway: str
    keep: Callable[[Feedback], None]
    fingerprints: Fingerprints
    clock: Callable[[], datetime]
    key_of: Callable[[web.Request], Awaitable[Principal | None]]

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer 202 and keep the score. Raises RequestRefused (400, 401, 403, 413)."""
        key = await self.key_of(request)
        body = await read_body(request, _LARGEST_BYTES, _BODY_WITHIN_S)
        given = (await understand(body, self.fingerprints)).fields
        request_id, score = _request_id(given), _score(given)
        self.keep(
            Feedback(
                at=self.clock(),
                gateway=self.gateway,
                request_id=request_id,
                score=score,
                key=key.name if key else None,
                scorer=self.fingerprints.session(session_of(request.headers, given)) or "",
            )
        )
        return web.json_response({"object": "feedback", "request_id": request_id, "score": score}, status=202)


def _request_id(given: Mapping[str, Any]) -> str:
    unknown = sorted(name for name in given if name not in _FIELDS)
    if unknown:
        text = f"{len(unknown)} fields are not known: feedback is `request_id`, `score` and `user`, never text."
        raise RequestRefused(400, text, code="unknown_field")
    name = given.get("request_id")
    if not isinstance(name, str) or not _REQUEST_ID.fullmatch(name):
        text = "`request_id` must be the X-Request-Id of an answer: 32 hexadecimal digits."
        raise RequestRefused(400, text, code="invalid_request_id", param="request_id")
    return name


def _score(given: Mapping[str, Any]) -> float:
    score = given.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise RequestRefused(
            400, "`score` must be a number from 0 (worst) to 1 (best).", code="invalid_score", param="score"
        )
    return float(score)
