"""`POST /v1/feedback`: what a person thought of an answer, as a score for its request. Never text."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.identity import DEFAULT_TENANT, Principal
from controlplane.gateway.body import read_body, understand
from controlplane.gateway.call import session_of
from controlplane.gateway.counts.lines import Counts, Kind, Line, has_passed
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.openai_errors import RequestRefused

PATH = "/v1/feedback"
_LARGEST_BYTES = 4096
_FIELDS = frozenset({"request_id", "score", "user"})
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_BODY_WITHIN_S = 15.0


@dataclass(frozen=True)
class FeedbackPort:
    """Takes scores. Whether a request was ours, and of the same key, is seen when scores and records are joined.

    They are counted beside requests, not among them: scoring an answer takes nobody's next question away.
    """

    gateway: str
    keep: Callable[[Feedback], None]
    fingerprints: Fingerprints
    clock: Callable[[], datetime]
    key_of: Callable[[web.Request], Awaitable[Principal | None]]
    counts: Counts
    per_minute: float

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer 202 and keep the score. Raises RequestRefused (400, 401, 403, 413, 429)."""
        key = await self.key_of(request)
        await self._count(key)
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

    async def _count(self, key: Principal | None) -> None:
        """Raise RequestRefused (429) for a key or a tenant that gives too many scores a minute."""
        standings = await self.counts.take(list(_lines(key, self.per_minute)))
        if not has_passed(standings):
            wait_s = max(standing.wait_s for standing in standings)
            text = f"Too many scores. Try again in {wait_s:.3g} s."
            raise RequestRefused(429, text, code="rate_limit_exceeded", headers={"Retry-After": str(math.ceil(wait_s))})


def _lines(key: Principal | None, per_minute: float) -> Iterator[Line]:
    """What a score is counted for. A key may give as many as it may ask requests, where that is limited."""
    if key is not None:
        of_key = key.limits.requests_per_minute
        yield Line(f"feedback/key/{key.name}", Kind.RATE, per_minute if of_key is None else of_key, 1.0)
    yield Line(f"feedback/tenant/{key.tenant if key else DEFAULT_TENANT}", Kind.RATE, per_minute, 1.0)


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
