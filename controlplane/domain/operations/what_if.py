"""What the twin expects of a configuration nobody started: the question a person asks and the answer shown."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from controlplane.domain.base import ServiceName, Value
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.operations.replica_capacity import ReplicaCapacity
from controlplane.domain.studies.capacity import Capacity, FleetSize


class Origin(StrEnum):
    """What a prediction rests on, from the best to the least."""

    MEASURED = "measured"
    """A profile that ships, fitted to just such an engine."""
    CALIBRATED = "calibrated here"
    """A profile of the user's own."""
    CARRIED_OVER = "carried over"
    """Other engines' profiles, one of another KV cache, or the data sheet: a wider interval."""
    UNKNOWN = "unknown"
    """Nothing is known of its speed."""


class WhatIf(Value):
    """A question about one service. Nothing is started."""

    rate_rps: float | None = Field(
        default=None, gt=0, le=10_000, description="Of one replica; None: no point, only capacity."
    )
    target_qps: float | None = Field(default=None, gt=0, le=100_000, description="Of the fleet; None: the service's.")
    flags: Mapping[str, FlagValue] = Field(default_factory=dict, description="Laid over the base flags.")
    prompt_tokens: float | None = Field(default=None, gt=0, le=1e6, description="Mean length; None keeps the workload.")
    output_tokens: float | None = Field(default=None, gt=0, le=1e6, description="Mean length; None keeps the workload.")
    shared_prefix: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of each prompt that all prompts begin with; None keeps what the workload shares.",
    )
    curve: bool = Field(default=False, description="Latency against rate as well.")


class Expected(Value):
    """A predicted number with its 90 % interval."""

    value: float
    low: float
    high: float


class ExpectedPoint(Value):
    """One rate of one replica. Latencies by `<metric>_p<percentile>`, e.g. `ttft_ms_p99`, milliseconds."""

    rate_rps: float
    saturated: bool
    latency: Mapping[str, Expected]
    kv_usage: float = Field(ge=0, le=1, description="Highest share of the KV cache in use.")
    prefix_hit_share: float | None = Field(
        default=None, ge=0, le=1, description="Share of prompt tokens found in the prefix cache; None without sharing."
    )


class WhatIfAnswer(Value):
    """What the twin expects. `refusal` says why the engine would not start; then nothing else is known."""

    service: ServiceName
    config: EngineConfig
    profile: str = Field(description="The twin's calibration that answered.")
    origin: Origin = Field(default=Origin.UNKNOWN, description="What the figures rest on.")
    refusal: str | None = None
    kv_tokens: int | None = None
    point: ExpectedPoint | None = None
    capacity: Capacity | None = None
    replica: ReplicaCapacity | None = Field(default=None, description="The same, in every unit somebody needs it in.")
    fleet: FleetSize | None = None
    usd_per_million_tokens: float | None = None
    curve: tuple[ExpectedPoint, ...] = ()
    notes: tuple[str, ...] = Field(
        default=(), description="Where the answer leaves what was calibrated, or what the service has."
    )
