"""What the engines of one model say of themselves at one moment. A number nobody told is None, never zero."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value


class EngineNumber(StrEnum):
    """The numbers that are read, named as in `EngineNumbers`."""

    TTFT_P99_MS = "ttft_p99_ms"
    TPOT_P99_MS = "tpot_p99_ms"
    WAITING = "waiting"
    RUNNING = "running"
    KV_USAGE_PERCENT = "kv_usage_percent"


class EngineNumbers(Value):
    """All replicas of a model together: percentiles over the last minute, the rest at `at`."""

    model: str
    at: AwareDatetime
    ttft_p99_ms: float | None = Field(default=None, ge=0)
    tpot_p99_ms: float | None = Field(default=None, ge=0, description="Time per output token after the first.")
    waiting: float | None = Field(default=None, ge=0, description="Requests queued in all engines.")
    running: float | None = Field(default=None, ge=0, description="Requests in the batches of all engines.")
    kv_usage_percent: float | None = Field(default=None, ge=0, le=100, description="Of the fullest engine.")


class NumberAt(NamedTuple):
    """One point of a series; None where nothing was known."""

    at: AwareDatetime
    value: float | None
