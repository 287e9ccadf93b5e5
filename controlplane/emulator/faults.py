"""What an emulated engine can be told to do wrong, at start (`--emulator-fault`) or while it runs (PUT /faults)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, ValidationError

from controlplane.domain.base import Value


class MetricsFault(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"  # counters stand still and gauges say nothing runs
    MISSING = "missing"  # /metrics answers 404


class Crash(StrEnum):
    """What a crash looks like to whoever started the engine."""

    ERROR = "error"  # of the GPU, exit code 1
    GPU_MEMORY = "gpu-memory"  # no room for a step's tensors beside the KV cache, exit code 1; after requests: a leak
    HOST_MEMORY = "host-memory"  # the kernel kills it, without a last word


class Faults(Value):
    """Seconds are wall-clock seconds; `*_ratio` is the share of requests a fault hits, drawn by the emulator's seed."""

    slow_start_s: float = Field(default=0, ge=0, description="Added to the start-up. Only at start.")
    out_of_memory: bool = Field(default=False, description="Refuse to start as if the GPU were full. Only at start.")
    crash_after_requests: int | None = Field(default=None, ge=1, description="Exit when so many requests came.")
    crash_after_s: float | None = Field(default=None, ge=0, description="Exit so long after this was set.")
    crash_as: Crash = Crash.ERROR
    stall_ratio: float = Field(default=0, ge=0, le=1, description="Streams that stop giving tokens and stay open.")
    stall_after_tokens: int = Field(default=5, ge=0)
    cut_ratio: float = Field(default=0, ge=0, le=1, description="Streams whose connection is cut.")
    cut_after_tokens: int = Field(default=5, ge=0)
    error_ratio: float = Field(default=0, ge=0, le=1, description="Requests answered with 500.")
    slow_factor: float = Field(default=1, ge=1, le=1000, description="Every engine step takes so many times as long.")
    slow_from_s: float = Field(default=0, ge=0, description="Seconds from readiness (or PUT) to the slow-down.")
    metrics: MetricsFault = MetricsFault.RIGHT


FAULT_HELP = "name=value[,name=value…] of: " + ", ".join(name.replace("_", "-") for name in Faults.model_fields)


def parse_faults(text: str) -> Faults:
    """Read `slow-factor=3,slow-from-s=10`. Raises ValueError naming what is wrong and what is allowed."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    fields = {name.strip().replace("-", "_"): value.strip() or "true" for name, _, value in pairs}
    try:
        return Faults.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False))
        raise ValueError(f"{problems} ({FAULT_HELP})") from error
