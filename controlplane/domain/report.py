"""What a load test says: one record per request and the figures made from the pooled records.

Percentiles come from pooled request records, never from averages of percentiles. Times are in emulated time when
`time_lapse` is not 1 (an emulator ran faster than the wall clock), and every place that shows them says so.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.enough import samples_needed
from controlplane.domain.slo import LatencySlo

MAX_LAG_MS = 10.0
"""Wall-clock P99 lag of a load generator that is always accepted: a general-purpose kernel promises no better."""


class RequestRecord(Value):
    """One request as the client saw it. Seconds and milliseconds count from the *scheduled* instant. Never any text."""

    index: int
    scheduled_s: float = Field(description="Scheduled instant, seconds from the start of the schedule.")
    lag_ms: float = Field(description="How late the generator sent.")
    prompt_tokens: int
    output_tokens: int = Field(description="Tokens received (from usage when the server sends it).")
    wanted_tokens: int
    ttft_ms: float | None = None
    tpot_ms: float | None = Field(default=None, description="(E2E − TTFT) / (output tokens − 1); None below 2 tokens.")
    e2e_ms: float | None = None
    max_itl_ms: float | None = None
    status: int = Field(default=0, description="HTTP status; 0 when none was received.")
    error: str | None = Field(default=None, description="Class of the failure, e.g. connect, timeout, truncated, http.")
    cancelled: bool = Field(default=False, description="The client hung up on purpose; its length says nothing.")
    blur_ms: float = Field(default=0, ge=0, description="How much earlier the first token may have come: read late.")

    @property
    def ok(self) -> bool:
        return self.error is None


class Percentile(Value):
    """A percentile with its 95 % interval. `high` is None when too few samples bound it from above."""

    percentile: float
    value: float
    low: float
    high: float | None


class Distribution(Value):
    """Percentiles of one latency metric, milliseconds."""

    count: int
    mean: float | None = None
    percentiles: tuple[Percentile, ...] = ()

    def at(self, percentile: float) -> Percentile | None:
        """Return the percentile with that rank, None if it was not computed."""
        return next((p for p in self.percentiles if p.percentile == percentile), None)


class SloCheck(Value):
    """One SLO against the records: the measured percentile and the share of requests that missed the limit."""

    slo: LatencySlo
    met: bool
    measured: Percentile | None
    miss_ratio: float
    miss_ratio_low: float
    miss_ratio_high: float

    def needed(self, requests: int) -> int:
        """Return how many requests with as many misses as these had would show for 95 % certain that it is met."""
        return samples_needed(self.slo.percentile, round(self.miss_ratio * requests))

    def is_shown(self, requests: int) -> bool:
        """Say whether it is met, and so many requests are enough to say so."""
        return self.met and requests >= self.needed(requests)


class Validity(StrEnum):
    VALID = "valid"
    INVALID = "invalid"  # the generator could not keep its schedule: the figures say nothing about the target


class LoadTestReport(Value):
    """One workload against one endpoint."""

    target: str
    rate_rps: float = Field(description="Offered request rate, in emulated time when time_lapse ≠ 1.")
    duration_s: float
    time_lapse: float = 1.0
    seed: int
    requests: int
    completed: int
    errors: int
    error_counts: dict[str, int] = Field(default_factory=dict)
    truncated: int = 0
    throughput_rps: float
    output_tps: float
    prompt_tps: float
    goodput_rps: float
    attainment: float = Field(description="Share of requests that met every latency limit.")
    ttft_ms: Distribution
    tpot_ms: Distribution
    itl_ms: Distribution
    e2e_ms: Distribution
    lag_ms: Distribution
    slo_checks: tuple[SloCheck, ...] = ()
    validity: Validity
    invalid_reason: str | None = None
    stopped_early: str | None = Field(default=None, description="Why the level ended before its schedule, if it did.")
    generator_cpu_percent: float | None = None
    timer_late_ms: float | None = Field(
        default=None, description="P99 of what a timer of an idle thread was late by, wall clock: the host's own part."
    )
    steal_percent: float | None = Field(default=None, description="CPU time of the host that other guests took.")
    unfinished: int = Field(
        default=0, description="In flight when the level ended early; neither completed nor errors."
    )
    cancelled: int = 0
    coalesced: int = Field(default=0, description="Token events read in one piece with the one before (gap unknown).")
    prompt_salt: int = Field(default=0, description="Seeds the prompts' content, so that no run finds another's cache.")

    @property
    def error_ratio(self) -> float:
        return self.errors / self.requests if self.requests else 0.0
