"""Service-level objectives: limits on percentiles and ratios, and what counts as one request's miss."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from pydantic import Field, model_validator

from controlplane.domain.base import Value


class LatencyMetric(StrEnum):
    TTFT = "ttft_ms"
    TPOT = "tpot_ms"
    E2E = "e2e_ms"


class LatencySlo(Value):
    """`percentile` percent of requests must have `metric` ≤ `limit_ms`, e.g. P99 TTFT ≤ 500 ms."""

    metric: LatencyMetric
    percentile: float = Field(gt=0, lt=100, examples=[99])
    limit_ms: float = Field(gt=0, examples=[500])

    @property
    def allowed_miss_ratio(self) -> float:
        """The share of requests that may exceed the limit (0.01 for a P99)."""
        return 1 - self.percentile / 100

    def __str__(self) -> str:
        return f"P{self.percentile:g} {self.metric.value.removesuffix('_ms').upper()} ≤ {self.limit_ms:g} ms"


class SloSet(Value):
    """Everything a service promises. `latency` limits hold per percentile; errors count as misses of every limit."""

    latency: tuple[LatencySlo, ...] = Field(min_length=1)
    max_error_ratio: float = Field(default=0.001, ge=0, lt=1)
    target_qps: float = Field(gt=0, description="Requests per second the whole fleet must sustain within the limits.")
    max_usd_per_hour: float | None = Field(default=None, gt=0, description="Cost ceiling of the whole fleet.")

    @model_validator(mode="after")
    def _one_limit_per_percentile(self) -> SloSet:
        seen = [(slo.metric, slo.percentile) for slo in self.latency]
        if len(seen) != len(set(seen)):
            raise ValueError("two limits on the same percentile of the same metric; keep one")
        return self


class RequestOutcome(Protocol):
    """What of a finished request an SLO looks at. Latencies are None when the request never got that far."""

    @property
    def ok(self) -> bool: ...
    @property
    def ttft_ms(self) -> float | None: ...
    @property
    def tpot_ms(self) -> float | None: ...
    @property
    def e2e_ms(self) -> float | None: ...


def misses(request: RequestOutcome, slo: LatencySlo) -> bool:
    """Say whether one request exceeded one limit. A failed request misses; an undefined TPOT (one token) passes."""
    if not request.ok:
        return True
    value: float | None = getattr(request, slo.metric.value)
    return value is not None and value > slo.limit_ms


def misses_any(request: RequestOutcome, slos: Iterable[LatencySlo]) -> bool:
    """Say whether one request exceeded any of the limits (it then adds nothing to goodput)."""
    return any(misses(request, slo) for slo in slos)
