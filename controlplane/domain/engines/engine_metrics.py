"""What the engines of one model say of themselves at one moment. A number nobody told is None, never zero."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value
from controlplane.domain.engines.gpu import GpuReading


class EngineNumber(StrEnum):
    """The numbers that are read, named as in `EngineNumbers`."""

    TTFT_P99_MS = "ttft_p99_ms"
    TPOT_P99_MS = "tpot_p99_ms"
    WAITING = "waiting"
    RUNNING = "running"
    KV_USAGE_PERCENT = "kv_usage_percent"
    PREEMPTIONS_PER_S = "preemptions_per_s"
    GPU_PERCENT = "gpu_percent"
    GPU_MEMORY_PERCENT = "gpu_memory_percent"
    GPU_POWER_W = "gpu_power_w"


GPU_NUMBERS = (EngineNumber.GPU_PERCENT, EngineNumber.GPU_MEMORY_PERCENT, EngineNumber.GPU_POWER_W)


class EngineNumbers(Value):
    """All replicas of a model together: percentiles over the last minute, the rest at `at`."""

    model: str
    at: AwareDatetime
    ttft_p99_ms: float | None = Field(default=None, ge=0)
    tpot_p99_ms: float | None = Field(default=None, ge=0, description="Time per output token after the first.")
    waiting: float | None = Field(default=None, ge=0, description="Requests queued in all engines.")
    running: float | None = Field(default=None, ge=0, description="Requests in the batches of all engines.")
    kv_usage_percent: float | None = Field(default=None, ge=0, le=100, description="Of the fullest engine.")
    preemptions_per_s: float | None = Field(
        default=None, ge=0, description="Requests of all engines put back for lack of KV cache, over the last minute."
    )
    gpu_percent: float | None = Field(default=None, ge=0, le=100, description="Utilisation, mean of all their GPUs.")
    gpu_memory_percent: float | None = Field(default=None, ge=0, le=100, description="Of the fullest GPU.")
    gpu_power_w: float | None = Field(default=None, ge=0, description="Drawn by all their GPUs.")


class NumberAt(NamedTuple):
    """One point of a series; None where nothing was known."""

    at: AwareDatetime
    value: float | None


def gpu_number(number: EngineNumber, readings: Sequence[GpuReading]) -> float | None:
    """Return one number of several GPUs together, None when none of them tells it. One of GPU_NUMBERS."""
    if number is EngineNumber.GPU_MEMORY_PERCENT:
        return max((each for reading in readings if (each := reading.memory_percent) is not None), default=None)
    if number is EngineNumber.GPU_POWER_W:
        drawn = [reading.power_w for reading in readings if reading.power_w is not None]
        return sum(drawn) if drawn else None
    busy = [each for reading in readings if (each := reading.utilisation_percent) is not None]
    return min(100.0, sum(busy) / len(busy)) if busy else None
