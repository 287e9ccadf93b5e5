"""Judging one rollout step: what was counted, and the verdict."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"  # could not measure: neither promotes nor rolls back


class Counts(Value):
    """Finished live requests of one revision within the step. Requests whose client hung up are left out."""

    requests: int = Field(ge=0)
    slo_misses: int = Field(ge=0, description="Missed at least one latency limit (errors count as misses).")
    errors: int = Field(ge=0)
    truncated: int = Field(default=0, ge=0)
    refused: int = Field(default=0, ge=0, description="Answered with 4xx by the engine; not among `requests`.")


class Comparison(Value):
    """Canary's ratio minus stable's with an anytime-valid interval at the rollout's confidence."""

    name: str = Field(examples=["slo_miss_ratio", "error_ratio", "refusal_ratio"])
    canary_ratio: float
    stable_ratio: float | None
    difference: float
    low: float
    high: float
    margin: float


class Analysis(Value):
    verdict: Verdict
    reason: str
    at: AwareDatetime
    canary: Counts
    stable: Counts | None = None
    comparisons: tuple[Comparison, ...] = ()
    guard: str | None = Field(default=None, description="The guard rail that fired, e.g. crash_loop.")
