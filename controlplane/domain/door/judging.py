"""A user's own judge of answers in A/B tests: what it is given, what it may say, what is kept of it. Pure.

A sample holds text: it lives in the memory of a gateway, of the controller and of the judge, and is written nowhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from pydantic import AwareDatetime, Field

from controlplane.domain.base import ServiceName, Value
from controlplane.domain.errors import InvalidInput

JUDGED_PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
_SHOWN_FIELDS = ("messages", "prompt", "tools", "response_format")
_LONGEST_SCORE_LINE = 200
_SHARES = 1 << 32


class JudgeOptions(Value):
    """A command that scores sampled answers of A/B tests. Only an admin may set it."""

    command: tuple[str, ...] = Field(
        min_length=1, description="Started where the controller runs: JSON lines in, one score a line out."
    )
    tenants: tuple[str, ...] = Field(
        default=(), description="Whose prompts and answers it may be given; as delivered nobody's."
    )
    sample_percent: float = Field(default=10, gt=0, le=100, description="Of these tenants' users, by their hash.")
    batch: int = Field(default=20, ge=1, le=200, description="Samples that one start of the command is given at most.")
    timeout_s: float = Field(default=60, gt=0, le=600, description="For one start; it is killed then.")
    longest_bytes: int = Field(
        default=32_768, ge=1024, le=262_144, description="Of a prompt and of an answer; longer ones are not sampled."
    )

    @property
    def digest(self) -> str:
        """What a test remembers of the judge it began with."""
        return sha256(json.dumps(self.command).encode()).hexdigest()[:16]


class Sampling(Value):
    """What a gateway is to know of it: whose answers to keep for a moment. Not the command."""

    tenants: tuple[str, ...]
    sample_percent: float = Field(gt=0, le=100)
    longest_bytes: int = Field(ge=1)


class Sample(Value):
    """One request and its answer, on their way to the judge."""

    request_id: str
    key: str | None = None
    path: str
    asked: dict[str, Any] = Field(repr=False)
    answer: str = Field(repr=False)


class Judged(Value):
    """What became of one sample: a score from 0 to 1, or why there is none. Never text of either."""

    at: AwareDatetime
    service: ServiceName
    test: str
    request_id: str
    key: str | None = None
    score: float | None = Field(default=None, ge=0, le=1)
    problem: str | None = None


def is_sampled(test: str, user: str, percent: float) -> bool:
    """Say whether a user's answers are sampled: by user, so that every arm's users are as likely as its share."""
    return int(sha256(f"{test}/{user}".encode()).hexdigest()[:8], 16) * 100 < percent * _SHARES


def what_was_asked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the judge is shown of a request: no name, no user, no options."""
    return {name: fields[name] for name in _SHOWN_FIELDS if name in fields}


def lines_for(samples: Sequence[Sample]) -> bytes:
    """Return what the judge reads. It is not told which arm answered."""
    lines = (
        {"id": number, "path": each.path, "request": each.asked, "answer": each.answer}
        for number, each in enumerate(samples)
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def most_bytes_of(count: int) -> int:
    """Return how much a judge of so many samples may say."""
    return (count + 1) * _LONGEST_SCORE_LINE


def scores_in(output: bytes, count: int) -> Sequence[float]:
    """Return the scores by sample. One line that is wrong makes all of them worthless: who knows what else is.

    Raises InvalidInput, with a reason that repeats nothing of the output.
    """
    lines = output.splitlines()
    if len(lines) != count:
        raise _wrong(f"{len(lines)} lines for {count} samples")
    scores = dict(_score(line) for line in lines)
    if set(scores) != set(range(count)):
        raise _wrong("an id is unknown, or there twice")
    return [scores[number] for number in range(count)]


def _score(line: bytes) -> tuple[int, float]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise _wrong("a line is no JSON") from None
    if not isinstance(said, dict) or set(said) != {"id", "score"}:
        raise _wrong("a line is no object of `id` and `score`")
    number, score = said["id"], said["score"]
    if isinstance(number, bool) or not isinstance(number, int):
        raise _wrong("an id is no whole number")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise _wrong("a score is no number from 0 to 1")
    return number, float(score)


def _wrong(why: str) -> InvalidInput:
    return InvalidInput("the judge's output is refused", why=why, allowed='{"id": 0, "score": 0.5} for every sample')
