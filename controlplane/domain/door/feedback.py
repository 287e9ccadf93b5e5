"""What a person thought of an answer: a score for a request, never text."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value


class Feedback(Value):
    """One score. A later one of the same scorer for the same request replaces it."""

    at: AwareDatetime
    gateway: str
    request_id: str
    score: float = Field(ge=0, le=1, description="0 worst, 1 best; thumbs are 0 and 1.")
    key: str | None = Field(default=None, description="Name of the API key: a score counts for requests of the same.")
    scorer: str = Field(description="Hash of who scores, salted per installation; empty for nobody in particular.")
